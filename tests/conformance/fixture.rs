//! A namespace for one scenario, and the objects in it, created through the Kubernetes API only.

use std::{error::Error, sync::Arc, time::Duration};

use base64::Engine as _;
use k8s_openapi::{
    api::{
        authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
        authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
        core::v1::{Namespace, Node, Pod, Secret, ServiceAccount},
        rbac::v1::{ClusterRoleBinding, Role, RoleBinding},
    },
    serde::{Serialize, de::DeserializeOwned},
};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};

use crate::cluster::TestCluster;

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// Upper bound for a change to take effect: the API server caches an authenticated token for 10 s,
/// and its watches lag.
pub(crate) const NOTICED_WITHIN: Duration = Duration::from_secs(20);

pub(crate) struct Fixture {
    cluster: Arc<TestCluster>,
    namespace: String,
}

impl Fixture {
    /// A fixture in a new namespace.
    pub(crate) async fn new(cluster: Arc<TestCluster>) -> Outcome<Self> {
        let namespace = format!("conformance-{:08x}", fastrand::u32(..));
        let admin = cluster.admin();
        let object = json!({"metadata": {"name": namespace}});
        Api::<Namespace>::all(admin).create(&PostParams::default(), &from(object)).await?;
        Ok(Self { cluster, namespace })
    }

    pub(crate) fn cluster(&self) -> &Arc<TestCluster> {
        &self.cluster
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns a new client each time: a connection pool may still hold connections that the server
    /// has closed.
    pub(crate) fn admin(&self) -> Client {
        self.cluster.admin()
    }

    pub(crate) fn username(&self, service_account: &str) -> String {
        format!("system:serviceaccount:{}:{service_account}", self.namespace)
    }

    fn objects<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.admin(), &self.namespace)
    }

    async fn create<K>(&self, object: Value) -> Outcome<String>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
        K: Clone + std::fmt::Debug + Serialize + DeserializeOwned,
    {
        let created = self.objects::<K>().create(&PostParams::default(), &from(object)).await?;
        created.meta().uid.clone().ok_or_else(|| "an object without a uid".into())
    }

    /// Creates a ServiceAccount and returns its uid.
    pub(crate) async fn service_account(&self, name: &str) -> Outcome<String> {
        self.create::<ServiceAccount>(json!({"metadata": {"name": name}})).await
    }

    pub(crate) async fn delete_service_account(&self, name: &str) -> Outcome {
        self.objects::<ServiceAccount>().delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Creates a Pod object and returns its uid.
    pub(crate) async fn pod(&self, name: &str, service_account: &str) -> Outcome<String> {
        self.create::<Pod>(pod(name, service_account)).await
    }

    /// Creates a Pod with labels and owners, and returns its uid.
    pub(crate) async fn labelled_pod(
        &self,
        name: &str,
        service_account: &str,
        labels: Value,
        owner_references: Value,
    ) -> Outcome<String> {
        let mut pod = pod(name, service_account);
        pod["metadata"]["labels"] = labels;
        pod["metadata"]["ownerReferences"] = owner_references;
        self.create::<Pod>(pod).await
    }

    /// Creates a Pod that is scheduled to a Node, and returns its uid.
    pub(crate) async fn pod_on(
        &self,
        node: &str,
        name: &str,
        service_account: &str,
    ) -> Outcome<String> {
        let mut pod = pod(name, service_account);
        pod["spec"]["nodeName"] = node.into();
        self.create::<Pod>(pod).await
    }

    pub(crate) async fn delete_pod(&self, name: &str) -> Outcome {
        self.objects::<Pod>().delete(name, &DeleteParams::default().grace_period(0)).await?;
        Ok(())
    }

    /// Creates a Node, named after the namespace, and returns its name and uid.
    pub(crate) async fn node(&self) -> Outcome<(String, String)> {
        let name = format!("node-of-{}", self.namespace);
        let nodes: Api<Node> = Api::all(self.admin());
        let created = nodes
            .create(&PostParams::default(), &from(json!({"metadata": {"name": name}})))
            .await?;
        Ok((name, created.metadata.uid.ok_or("a node without a uid")?))
    }

    pub(crate) async fn secret(&self, name: &str) -> Outcome<String> {
        self.create::<Secret>(json!({"metadata": {"name": name}})).await
    }

    /// Creates the Secret of a legacy token.
    pub(crate) async fn token_secret(
        &self,
        name: &str,
        account: (&str, &str),
        token: &str,
    ) -> Outcome<String> {
        let annotations = json!({
            "kubernetes.io/service-account.name": account.0,
            "kubernetes.io/service-account.uid": account.1,
        });
        let metadata = json!({"name": name, "annotations": annotations});
        let data = json!({"token": base64::engine::general_purpose::STANDARD.encode(token)});
        let kind = "kubernetes.io/service-account-token";
        self.create::<Secret>(json!({"metadata": metadata, "type": kind, "data": data})).await
    }

    pub(crate) async fn delete_secret(&self, name: &str) -> Outcome {
        self.objects::<Secret>().delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Requests a token for `audiences`, or for the API server if there are none.
    pub(crate) async fn token(&self, service_account: &str, audiences: &[&str]) -> Outcome<String> {
        self.request_token(service_account, audiences, None).await
    }

    /// Requests a token that is bound to a Pod, Secret or Node.
    pub(crate) async fn bound_token(
        &self,
        service_account: &str,
        audiences: &[&str],
        kind: &str,
        name: &str,
    ) -> Outcome<String> {
        let bound = BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some(kind.to_owned()),
            name: Some(name.to_owned()),
            uid: None,
        };
        self.request_token(service_account, audiences, Some(bound)).await
    }

    async fn request_token(
        &self,
        service_account: &str,
        audiences: &[&str],
        bound_object_ref: Option<BoundObjectReference>,
    ) -> Outcome<String> {
        let audiences = Some(audiences.iter().map(|audience| (*audience).to_owned()).collect());
        let spec = TokenRequestSpec {
            audiences,
            bound_object_ref,
            expiration_seconds: Some(3600),
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let accounts = self.objects::<ServiceAccount>();
        let granted = accounts
            .create_token_request(service_account, &PostParams::default(), &request)
            .await?;
        granted
            .status
            .and_then(|status| status.token)
            .ok_or_else(|| "a TokenRequest without a token".into())
    }

    /// Binds a ServiceAccount to `system:auth-delegator` and waits until that takes effect.
    pub(crate) async fn grant_auth_delegator(&self, service_account: &str) -> Outcome {
        let binding = json!({
            "metadata": {"name": binding_name(&self.namespace, service_account)},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:auth-delegator"},
            "subjects": [{"kind": "ServiceAccount", "name": service_account, "namespace": self.namespace}],
        });
        let bindings: Api<ClusterRoleBinding> = Api::all(self.admin());
        bindings.create(&PostParams::default(), &from(binding)).await?;
        let username = self.username(service_account);
        eventually("the ClusterRoleBinding to take effect", || self.may_review_tokens(&username))
            .await
    }

    /// Lets a ServiceAccount list and watch these resources of the namespace, as
    /// examples/kubernetes/live-objects.yaml does for the cluster.
    pub(crate) async fn grant_watching(
        &self,
        service_account: &str,
        resources: &[&str],
    ) -> Outcome {
        let metadata = json!({"name": "live-objects"});
        let rule = json!({"apiGroups": [""], "resources": resources, "verbs": ["list", "watch"]});
        self.create::<Role>(json!({"metadata": metadata, "rules": [rule]})).await?;
        self.create::<RoleBinding>(json!({
            "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "live-objects"},
            "subjects": [{"kind": "ServiceAccount", "name": service_account, "namespace": self.namespace}],
        }))
        .await?;
        Ok(())
    }

    async fn may_review_tokens(&self, username: &str) -> Outcome<bool> {
        let spec = SubjectAccessReviewSpec {
            user: Some(username.to_owned()),
            resource_attributes: Some(ResourceAttributes {
                group: Some("authentication.k8s.io".to_owned()),
                resource: Some("tokenreviews".to_owned()),
                verb: Some("create".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let reviews: Api<SubjectAccessReview> = Api::all(self.admin());
        let reviewed = reviews.create(&PostParams::default(), &review).await?;
        Ok(reviewed.status.is_some_and(|status| status.allowed))
    }
}

/// Polls `condition` until it holds. Fails with its error, or when it takes too long.
pub(crate) async fn eventually<F, A>(what: &str, mut condition: F) -> Outcome
where
    F: FnMut() -> A,
    A: Future<Output = Outcome<bool>>,
{
    let polling = async {
        while !condition().await? {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    };
    let in_time = tokio::time::timeout(NOTICED_WITHIN, polling).await;
    in_time.unwrap_or_else(|_| {
        Err(format!("timed out after {NOTICED_WITHIN:?} waiting for {what}").into())
    })
}

/// Removes the objects of a scenario from a cluster that outlives the suite.
pub(crate) async fn clean_up(cluster: &TestCluster, namespace: &str) {
    let bindings: Api<ClusterRoleBinding> = Api::all(cluster.admin());
    let _ = bindings
        .delete(&binding_name(namespace, crate::verifiers::ACCOUNT), &DeleteParams::default())
        .await;
    let namespaces: Api<Namespace> = Api::all(cluster.admin());
    let _ = namespaces.delete(namespace, &DeleteParams::default()).await;
}

fn binding_name(namespace: &str, service_account: &str) -> String {
    format!("{namespace}-{service_account}")
}

fn pod(name: &str, service_account: &str) -> Value {
    let containers = json!([{"name": "main", "image": "registry.k8s.io/pause:3.10"}]);
    json!({"metadata": {"name": name}, "spec": {"serviceAccountName": service_account, "containers": containers}})
}

fn from<K: DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).expect("a valid Kubernetes object")
}
