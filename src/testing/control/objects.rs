//! Objects that tests create and delete.

use serde_json::{Value, json};

use crate::testing::{
    cluster::Cluster,
    lock::lock,
    objects::{KINDS, set, text},
    state::State,
};

/// Objects. What is created here, and what is created through a `kube` client, is one and the same.
impl Cluster {
    /// Makes sure that there is a ServiceAccount, and its namespace. Returns its uid.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tower_kube_auth::testing::Cluster;
    ///
    /// let cluster = Cluster::start().await?;
    /// let first = cluster.create_service_account("team-a", "robot");
    /// assert_eq!(cluster.create_service_account("team-a", "robot"), first, "it is there already");
    /// assert!(cluster.delete_service_account("team-a", "robot"));
    /// assert_ne!(cluster.create_service_account("team-a", "robot"), first, "the same name, but another one");
    /// # Ok(()) }
    /// ```
    pub fn create_service_account(&self, namespace: &str, name: &str) -> String {
        self.state.ensure("serviceaccounts", namespace, name, json!({}))
    }

    /// Deletes a ServiceAccount at once; its tokens are refused from then on. Says whether there was one.
    pub fn delete_service_account(&self, namespace: &str, name: &str) -> bool {
        self.state.kill("serviceaccounts", namespace, name)
    }

    /// Makes sure that there is a Pod that runs as a ServiceAccount, and its namespace. Returns its uid.
    pub fn create_pod(&self, namespace: &str, name: &str, service_account: &str) -> String {
        self.state.ensure("pods", namespace, name, pod(service_account))
    }

    /// Like [`create_pod`](Self::create_pod), already scheduled to a node, which is created too: newer releases write
    /// the node into the Pod's tokens.
    pub fn create_pod_on_node(
        &self,
        namespace: &str,
        name: &str,
        service_account: &str,
        node: &str,
    ) -> String {
        self.state.ensure("nodes", "", node, json!({}));
        let mut pod = pod(service_account);
        if let Some(spec) = pod.get_mut("spec") {
            set(spec, "nodeName", json!(node));
        }
        self.state.ensure("pods", namespace, name, pod)
    }

    /// Deletes a Pod at once, without its grace period; tokens that are bound to it are refused from then on. Says
    /// whether there was one.
    pub fn delete_pod(&self, namespace: &str, name: &str) -> bool {
        self.state.kill("pods", namespace, name)
    }

    /// Makes sure that there is a Secret, and its namespace. Returns its uid.
    pub fn create_secret(&self, namespace: &str, name: &str) -> String {
        self.state.ensure("secrets", namespace, name, json!({}))
    }

    /// Deletes a Secret. Says whether there was one.
    pub fn delete_secret(&self, namespace: &str, name: &str) -> bool {
        self.state.kill("secrets", namespace, name)
    }
}

fn pod(service_account: &str) -> Value {
    let containers = json!([{"name": "main", "image": "registry.k8s.io/pause:3.10"}]);
    json!({"spec": {"serviceAccountName": service_account, "containers": containers}})
}

/// What tests do with objects.
impl State {
    /// Creates `object`, and the namespace if it is not there; what is there already stays as it is. Returns the uid.
    pub(in crate::testing) fn ensure(
        &self,
        plural: &'static str,
        namespace: &str,
        name: &str,
        mut object: Value,
    ) -> String {
        if !namespace.is_empty() {
            self.ensure("namespaces", "", namespace, json!({}));
        }
        set(&mut object, "metadata", json!({"name": name}));
        let existing = |state: &Self| {
            lock(&state.objects)
                .get(plural, namespace, name)
                .map(|object| text(object, "/metadata/uid").to_owned())
        };
        if let Some(uid) = existing(self) {
            return uid;
        }
        if let Some(kind) = KINDS.iter().find(|kind| kind.plural == plural) {
            // Another thread may have been faster; then its object is the one.
            let _ = self.create(kind, namespace, object);
        }
        existing(self).unwrap_or_default()
    }

    fn kill(&self, plural: &'static str, namespace: &str, name: &str) -> bool {
        lock(&self.objects).remove(plural, namespace, name).is_some()
    }
}
