//! Creating and deleting objects.

use serde_json::{Value, json};

use crate::testing::{
    cluster::Cluster,
    lock::lock,
    objects::{KINDS, set, text},
    state::State,
};

/// Objects, shared with those that `kube` clients see.
impl Cluster {
    /// Creates a ServiceAccount and its namespace unless they exist. Returns its uid.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tower_kube_auth::testing::Cluster;
    ///
    /// let cluster = Cluster::start().await?;
    /// let first = cluster.create_service_account("team-a", "robot");
    /// assert_eq!(cluster.create_service_account("team-a", "robot"), first, "it exists already");
    /// assert!(cluster.delete_service_account("team-a", "robot"));
    /// assert_ne!(cluster.create_service_account("team-a", "robot"), first, "a new uid");
    /// # Ok(()) }
    /// ```
    pub fn create_service_account(&self, namespace: &str, name: &str) -> String {
        self.state.ensure("serviceaccounts", namespace, name, json!({}))
    }

    /// Deletes a ServiceAccount, which invalidates its tokens. Returns whether it existed.
    pub fn delete_service_account(&self, namespace: &str, name: &str) -> bool {
        self.state.remove("serviceaccounts", namespace, name)
    }

    /// Creates a Pod that runs as a ServiceAccount, and its namespace, unless they exist. Returns
    /// its uid.
    pub fn create_pod(&self, namespace: &str, name: &str, service_account: &str) -> String {
        self.state.ensure("pods", namespace, name, pod(service_account))
    }

    /// Like [`create_pod`](Self::create_pod), scheduled to a node, which is created too. Newer
    /// releases write the node into the Pod's tokens.
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

    /// Deletes a Pod without its grace period, which invalidates tokens bound to it. Returns
    /// whether it existed.
    pub fn delete_pod(&self, namespace: &str, name: &str) -> bool {
        self.state.remove("pods", namespace, name)
    }

    /// Creates a Secret and its namespace unless they exist. Returns its uid.
    pub fn create_secret(&self, namespace: &str, name: &str) -> String {
        self.state.ensure("secrets", namespace, name, json!({}))
    }

    /// Deletes a Secret. Returns whether it existed.
    pub fn delete_secret(&self, namespace: &str, name: &str) -> bool {
        self.state.remove("secrets", namespace, name)
    }
}

fn pod(service_account: &str) -> Value {
    let containers = json!([{"name": "main", "image": "registry.k8s.io/pause:3.10"}]);
    json!({"spec": {"serviceAccountName": service_account, "containers": containers}})
}

/// Operations on the store.
impl State {
    /// Creates `object` and its namespace unless they exist. Returns the uid.
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
            // Fails if another thread created it first; its uid is returned then.
            let _ = self.create(kind, namespace, object);
        }
        existing(self).unwrap_or_default()
    }

    fn remove(&self, plural: &'static str, namespace: &str, name: &str) -> bool {
        lock(&self.objects).remove(plural, namespace, name).is_some()
    }
}
