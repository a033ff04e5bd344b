//! Granting and revoking permissions, as RBAC objects in the store, and the bootstrap policy.

use serde_json::{Value, json};

use crate::testing::{cluster::Cluster, lock::lock, objects::text, release::Release, state::State};

/// Permissions.
impl Cluster {
    /// Binds `username` to the ClusterRole `system:auth-delegator`: TokenReview and
    /// SubjectAccessReview.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tower_kube_auth::testing::Cluster;
    ///
    /// let cluster = Cluster::start().await?;
    /// cluster.create_service_account("team-a", "robot");
    /// cluster.grant_auth_delegator("system:serviceaccount:team-a:robot");
    /// cluster.revoke("system:serviceaccount:team-a:robot");
    /// # Ok(()) }
    /// ```
    pub fn grant_auth_delegator(&self, username: &str) {
        self.bind_cluster_role("system:auth-delegator", subject(username));
    }

    /// Binds `username` to the ClusterRole `cluster-admin`: everything.
    pub fn grant_admin(&self, username: &str) {
        self.bind_cluster_role("cluster-admin", subject(username));
    }

    /// Lets `username` request tokens of the named ServiceAccounts in a namespace, or of all if
    /// none is named.
    pub fn grant_token_request(&self, username: &str, namespace: &str, service_accounts: &[&str]) {
        let rule = json!({
            "apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"],
            "resourceNames": service_accounts,
        });
        self.grant_in_namespace(username, namespace, &rule);
    }

    /// Grants `username` one RBAC `PolicyRule` in the whole cluster.
    ///
    /// The rule has the form of an item in a ClusterRole's `rules`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tower_kube_auth::testing::Cluster;
    ///
    /// let cluster = Cluster::start().await?;
    /// let rule = serde_json::json!({"nonResourceURLs": ["/metrics"], "verbs": ["get"]});
    /// cluster.grant("jane", &rule);
    /// # Ok(()) }
    /// ```
    pub fn grant(&self, username: &str, rule: &Value) {
        let name = binding_name(username, &rule.to_string());
        self.state.ensure("clusterroles", "", &name, json!({"rules": [rule]}));
        self.bind_cluster_role(&name, subject(username));
    }

    /// Grants `username` one RBAC `PolicyRule` in one namespace.
    pub fn grant_in_namespace(&self, username: &str, namespace: &str, rule: &Value) {
        let name = binding_name(username, &rule.to_string());
        self.state.ensure("roles", namespace, &name, json!({"rules": [rule]}));
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name});
        let binding = json!({"subjects": [subject(username)], "roleRef": role});
        self.state.ensure("rolebindings", namespace, &name, binding);
    }

    /// Revokes every permission granted to `username` by name. Permissions of its groups stay.
    pub fn revoke(&self, username: &str) {
        let mut objects = lock(&self.state.objects);
        for plural in ["clusterrolebindings", "rolebindings"] {
            let bound =
                |binding: &&Value| binding.pointer("/subjects/0") == Some(&subject(username));
            let found = objects.list(plural, "").filter(bound);
            let found: Vec<_> = found
                .map(|binding| {
                    (
                        text(binding, "/metadata/namespace").to_owned(),
                        text(binding, "/metadata/name").to_owned(),
                    )
                })
                .collect();
            for (namespace, name) in found {
                objects.remove(plural, &namespace, &name);
            }
        }
    }

    /// Forbids ServiceAccounts to read the discovery document and the keys, as some clusters do.
    pub fn revoke_issuer_discovery(&self) {
        lock(&self.state.objects).remove("clusterrolebindings", "", ISSUER_DISCOVERY);
    }

    /// Forbids everybody to ask about their own rights (`system:basic-user`), as hardened clusters
    /// do.
    pub fn revoke_basic_user(&self) {
        lock(&self.state.objects).remove("clusterrolebindings", "", BASIC_USER);
    }

    /// Lets everyone read the discovery document and the keys, also without a credential, as in
    /// clusters with a public issuer.
    pub fn allow_anonymous_discovery(&self) {
        self.bind_cluster_role(ISSUER_DISCOVERY, group("system:unauthenticated"));
    }

    fn bind_cluster_role(&self, role: &str, subject: Value) {
        self.state.bind_cluster_role(
            &binding_name(text(&subject, "/name"), role),
            role,
            &json!([subject]),
        );
    }
}

const BASIC_USER: &str = "system:basic-user";
const ISSUER_DISCOVERY: &str = "system:service-account-issuer-discovery";

impl State {
    /// Creates the roles of Kubernetes' bootstrap policy that concern authentication
    /// (`plugin/pkg/auth/authorizer/rbac/bootstrappolicy`).
    pub(in crate::testing) fn bootstrap_access(&self) {
        let health = ["/healthz", "/livez", "/readyz", "/version", "/version/"];
        let discovery = ["/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*"];
        let mut issuer = vec!["/.well-known/openid-configuration", "/openid/v1/jwks"];
        if self.release != Release::V1_20 {
            issuer.extend(["/.well-known/openid-configuration/", "/openid/v1/jwks/"]);
        }
        let get = |paths: &[&str]| json!({"nonResourceURLs": paths, "verbs": ["get"]});
        let review = |group: &str, resource: &str| {
            let (groups, resources) = ([group], [resource]);
            json!({"apiGroups": groups, "resources": resources, "verbs": ["create"]})
        };
        let (all, nobody) = ("system:authenticated", "system:unauthenticated");
        let roles = [
            (
                "cluster-admin",
                json!([
                    {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
                    {"nonResourceURLs": ["*"], "verbs": ["*"]},
                ]),
                vec!["system:masters"],
            ),
            ("system:discovery", json!([get(&health), get(&discovery)]), vec![all]),
            ("system:public-info-viewer", json!([get(&health)]), vec![all, nobody]),
            (
                BASIC_USER,
                json!([review("authorization.k8s.io", "selfsubjectaccessreviews")]),
                vec![all],
            ),
            (ISSUER_DISCOVERY, json!([get(&issuer)]), vec!["system:serviceaccounts"]),
            (
                "system:auth-delegator",
                json!([
                    review("authentication.k8s.io", "tokenreviews"),
                    review("authorization.k8s.io", "subjectaccessreviews"),
                ]),
                vec![],
            ),
        ];
        for (name, rules, groups) in roles {
            self.ensure("clusterroles", "", name, json!({"rules": rules}));
            let groups: Vec<Value> = groups.into_iter().map(group).collect();
            if !groups.is_empty() {
                self.bind_cluster_role(name, name, &json!(groups));
            }
        }
    }

    fn bind_cluster_role(&self, name: &str, role: &str, subjects: &Value) {
        let role =
            json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role});
        self.ensure(
            "clusterrolebindings",
            "",
            name,
            json!({"subjects": subjects, "roleRef": role}),
        );
    }
}

fn group(name: &str) -> Value {
    json!({"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": name})
}

fn subject(username: &str) -> Value {
    match username.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':')) {
        Some((namespace, name)) => {
            json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
        }
        None => json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": username}),
    }
}

/// Returns the same name for the same grant, so that granting is idempotent.
fn binding_name(who: &str, what: &str) -> String {
    let digest =
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, format!("{who} {what}").as_bytes());
    let hex: String = digest.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("grant-{hex}")
}
