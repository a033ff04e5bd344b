//! Authorization by the cluster's RBAC: rules for paths and resources, groups, removed bindings.

use std::time::Duration;

use http::Request;
use k8s_openapi::{
    api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
    serde::{Serialize, de::DeserializeOwned},
};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};
use tower_kube_auth::{
    ServiceAccountIdentity,
    authorizer::{
        Authorizer, Decision, DenyReason, RequestHead, ResourceAttributes,
        SubjectAccessReviewAuthorizer, SubjectAccessReviewBuilder,
    },
};

use crate::{
    fixture::{Fixture, Outcome, eventually},
    verifiers::{ACCOUNT, accepted, verify},
};

const RBAC: &str = "rbac.authorization.k8s.io";

/// What a caller may do, by an authorizer with a verifier's rights that caches nothing.
struct Access {
    fixture: Fixture,
    robot: ServiceAccountIdentity,
    own_token: String,
}

impl Access {
    async fn new(fixture: Fixture) -> Outcome<Self> {
        let verifiers = fixture.verifiers().await?;
        fixture.service_account("robot").await?;
        let token = fixture.token("robot", &["orders"]).await?;
        let robot = accepted(&verify(&verifiers.review, &token, "orders").await?).clone();
        let own_token = fixture.token(ACCOUNT, &[]).await?;
        Ok(Self { fixture, robot, own_token })
    }

    fn authorizer(&self) -> SubjectAccessReviewBuilder {
        let client = self.fixture.cluster().client_for(&self.own_token);
        SubjectAccessReviewAuthorizer::builder(client)
            .allowed_ttl(Duration::ZERO)
            .denied_ttl(Duration::ZERO)
    }

    async fn may(&self, method: &str, path: &str) -> Outcome<bool> {
        self.decide(self.authorizer(), method, path).await
    }

    async fn may_access(&self, resource: ResourceAttributes) -> Outcome<bool> {
        self.decide(self.authorizer().attributes(resource), "GET", "/").await
    }

    async fn decide(
        &self,
        authorizer: SubjectAccessReviewBuilder,
        method: &str,
        path: &str,
    ) -> Outcome<bool> {
        let request = Request::builder().method(method).uri(path).body(())?;
        let head = RequestHead::from(&request);
        match authorizer.build()?.authorize(&self.robot, head).await? {
            Decision::Allow => Ok(true),
            Decision::Deny(DenyReason::AccessReview) => Ok(false),
            Decision::Deny(reason) => Err(reason.to_string().into()),
        }
    }

    /// Creates a ClusterRole with this rule and binds it to `subject` in the whole cluster.
    async fn grant(&self, rule: Value, subject: Value) -> Outcome {
        let name = self.name();
        self.create::<ClusterRole>(json!({"metadata": {"name": name}, "rules": [rule]})).await?;
        self.create::<ClusterRoleBinding>(json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": name},
            "subjects": [subject],
        }))
        .await
    }

    async fn revoke(&self) -> Outcome {
        let (name, how) = (self.name(), DeleteParams::default());
        Api::<ClusterRoleBinding>::all(self.fixture.admin()).delete(&name, &how).await?;
        Api::<ClusterRole>::all(self.fixture.admin()).delete(&name, &how).await?;
        Ok(())
    }

    async fn create<K>(&self, object: Value) -> Outcome
    where
        K: kube::Resource<Scope = k8s_openapi::ClusterResourceScope, DynamicType = ()>,
        K: Clone + std::fmt::Debug + Serialize + DeserializeOwned,
    {
        let object: K = serde_json::from_value(object)?;
        Api::<K>::all(self.fixture.admin()).create(&PostParams::default(), &object).await?;
        Ok(())
    }

    fn name(&self) -> String {
        format!("{}-access", self.fixture.namespace())
    }

    fn account(&self) -> Value {
        json!({"kind": "ServiceAccount", "name": "robot", "namespace": self.fixture.namespace()})
    }
}

pub(super) async fn a_rule_for_paths_decides_about_path_and_method(fixture: Fixture) -> Outcome {
    let access = Access::new(fixture).await?;
    assert!(!access.may("GET", "/metrics").await?, "nothing is granted yet");
    let rule = json!({"nonResourceURLs": ["/metrics", "/debug/*"], "verbs": ["get"]});
    access.grant(rule, access.account()).await?;
    eventually("the rule to take effect", || access.may("GET", "/metrics")).await?;
    for (method, path, allowed) in [
        ("GET", "/metrics?format=text", true),
        ("GET", "/debug/pprof", true),
        ("POST", "/metrics", false),
        ("GET", "/metrics/", false),
        ("GET", "/Metrics", false),
        ("GET", "/debug", false),
        ("GET", "/", false),
    ] {
        assert_eq!(access.may(method, path).await?, allowed, "{method} {path}");
    }
    access.revoke().await?;
    eventually("the revocation to take effect", || async {
        Ok(!access.may("GET", "/metrics").await?)
    })
    .await
}

pub(super) async fn a_rule_for_resources_decides_about_each_attribute(fixture: Fixture) -> Outcome {
    let access = Access::new(fixture).await?;
    let namespace = access.fixture.namespace().to_owned();
    let roles: Api<Role> = Api::namespaced(access.fixture.admin(), &namespace);
    let role = json!({"metadata": {"name": "reader"}, "rules": [{
        "apiGroups": ["shop.example.org"],
        "resources": ["orders", "carts/items"],
        "resourceNames": ["first"],
        "verbs": ["get"],
    }]});
    roles.create(&PostParams::default(), &serde_json::from_value(role)?).await?;
    let bindings: Api<RoleBinding> = Api::namespaced(access.fixture.admin(), &namespace);
    let binding = json!({
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": "reader"},
        "subjects": [access.account()],
    });
    bindings.create(&PostParams::default(), &serde_json::from_value(binding)?).await?;

    let of = |verb: &str, resource: &str| ResourceAttributes::new(verb, resource);
    let full = |of: ResourceAttributes| of.group("shop.example.org").namespace(&*namespace);
    let order = || full(of("get", "orders")).name("first");
    eventually("the rule to take effect", || access.may_access(order())).await?;
    for (attributes, allowed) in [
        (order().version("v1"), true),
        (full(of("get", "carts")).subresource("items").name("first"), true),
        (full(of("get", "carts")).name("first"), false),
        (full(of("delete", "orders")).name("first"), false),
        (order().name("second"), false),
        (full(of("get", "orders")), false),
        (order().group(""), false),
        (order().namespace("default"), false),
        (order().namespace(""), false),
        (order().subresource("status"), false),
    ] {
        assert_eq!(access.may_access(attributes.clone()).await?, allowed, "{attributes:?}");
    }
    bindings.delete("reader", &DeleteParams::default()).await?;
    eventually("the deletion of the binding to take effect", || async {
        Ok(!access.may_access(order()).await?)
    })
    .await
}

pub(super) async fn a_binding_to_a_group_counts_for_its_members(fixture: Fixture) -> Outcome {
    let access = Access::new(fixture).await?;
    let rule = json!({"nonResourceURLs": ["/metrics"], "verbs": ["get"]});
    let group = format!("system:serviceaccounts:{}", access.fixture.namespace());
    access.grant(rule, json!({"apiGroup": RBAC, "kind": "Group", "name": group})).await?;
    eventually("the rule to take effect", || access.may("GET", "/metrics")).await?;
    access.revoke().await?;
    eventually("the revocation to take effect", || async {
        Ok(!access.may("GET", "/metrics").await?)
    })
    .await
}

pub(super) async fn without_auth_delegator_nothing_is_decided(fixture: Fixture) -> Outcome {
    let mut access = Access::new(fixture).await?;
    access.own_token = access.fixture.token("robot", &[]).await?;
    let error = access.may("GET", "/metrics").await.expect_err("a right is missing");
    assert!(error.to_string().contains("system:auth-delegator"), "{error}");
    Ok(())
}
