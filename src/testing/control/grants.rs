//! Giving rights and taking them, and those that a cluster starts with. They are RBAC's own objects in the store.

use serde_json::{Value, json};

use crate::testing::{cluster::Cluster, lock::lock, objects::text, release::Release, state::State};

/// Who may do what.
impl Cluster {
    /// Binds `username` to the ClusterRole `system:auth-delegator`: TokenReview and SubjectAccessReview.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
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

    /// Lets `username` request tokens of the named ServiceAccounts in a namespace; of all of them if none is named.
    pub fn grant_token_request(&self, username: &str, namespace: &str, service_accounts: &[&str]) {
        let rule = json!({
            "apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"],
            "resourceNames": service_accounts,
        });
        self.grant_in_namespace(username, namespace, &rule);
    }

    /// Gives `username` one RBAC `PolicyRule` in the whole cluster.
    ///
    /// The rule is written as in a ClusterRole's `rules`, so that whatever RBAC can say can be granted.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tower_kube_auth::testing::Cluster;
    ///
    /// let cluster = Cluster::start().await?;
    /// cluster.grant("jane", &serde_json::json!({"nonResourceURLs": ["/metrics"], "verbs": ["get"]}));
    /// # Ok(()) }
    /// ```
    pub fn grant(&self, username: &str, rule: &Value) {
        let name = binding_name(username, &rule.to_string());
        self.state.ensure("clusterroles", "", &name, json!({"rules": [rule]}));
        self.bind_cluster_role(&name, subject(username));
    }

    /// Gives `username` one RBAC `PolicyRule` in one namespace.
    pub fn grant_in_namespace(&self, username: &str, namespace: &str, rule: &Value) {
        let name = binding_name(username, &rule.to_string());
        self.state.ensure("roles", namespace, &name, json!({"rules": [rule]}));
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name});
        let binding = json!({"subjects": [subject(username)], "roleRef": role});
        self.state.ensure("rolebindings", namespace, &name, binding);
    }

    /// Takes every right from `username` that was given to it by name. What its groups may do stays.
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

    /// Forbids every ServiceAccount to read the discovery document and the keys, as some clusters do.
    pub fn revoke_issuer_discovery(&self) {
        lock(&self.state.objects).remove("clusterrolebindings", "", ISSUER_DISCOVERY);
    }

    /// Lets everyone, without a credential too, read the discovery document and the keys, as clusters do whose issuer
    /// is public.
    pub fn allow_anonymous_discovery(&self) {
        let group = json!({"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "system:unauthenticated"});
        self.bind_cluster_role(ISSUER_DISCOVERY, group);
    }

    fn bind_cluster_role(&self, role: &str, subject: Value) {
        self.state.bind_cluster_role(
            &binding_name(text(&subject, "/name"), role),
            role,
            &json!([subject]),
        );
    }
}

const ISSUER_DISCOVERY: &str = "system:service-account-issuer-discovery";

impl State {
    /// The part of the bootstrap policy that matters here (`plugin/pkg/auth/authorizer/rbac/bootstrappolicy`).
    pub(in crate::testing) fn bootstrap_access(&self) {
        let health = ["/healthz", "/livez", "/readyz", "/version", "/version/"];
        let discovery = ["/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*"];
        let mut issuer = vec!["/.well-known/openid-configuration", "/openid/v1/jwks"];
        if self.release != Release::V1_20 {
            issuer.extend(["/.well-known/openid-configuration/", "/openid/v1/jwks/"]);
        }
        let get = |paths: &[&str]| json!({"nonResourceURLs": paths, "verbs": ["get"]});
        let review = |group: &str, resource: &str| json!({"apiGroups": [group], "resources": [resource], "verbs": ["create"]});
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
            let group = |group: &str| json!({"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": group});
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

fn subject(username: &str) -> Value {
    match username.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':')) {
        Some((namespace, name)) => {
            json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
        }
        None => json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": username}),
    }
}

/// One name for one grant, so that granting twice is granting once.
fn binding_name(who: &str, what: &str) -> String {
    let digest =
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, format!("{who} {what}").as_bytes());
    let hex: String = digest.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("grant-{hex}")
}
