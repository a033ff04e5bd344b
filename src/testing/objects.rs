//! The objects that the API server stores: ServiceAccounts, Pods, Secrets, what surrounds them, and RBAC's.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    Cluster,
    state::{State, lock},
};

/// A kind of object, and where it lives.
#[derive(Debug, PartialEq)]
pub(super) struct Kind {
    pub(super) group: &'static str,
    pub(super) plural: &'static str,
    pub(super) name: &'static str,
    pub(super) namespaced: bool,
}

const RBAC: &str = "rbac.authorization.k8s.io";

const KINDS: [Kind; 9] = [
    Kind { group: "", plural: "namespaces", name: "Namespace", namespaced: false },
    Kind { group: "", plural: "nodes", name: "Node", namespaced: false },
    Kind { group: "", plural: "serviceaccounts", name: "ServiceAccount", namespaced: true },
    Kind { group: "", plural: "pods", name: "Pod", namespaced: true },
    Kind { group: "", plural: "secrets", name: "Secret", namespaced: true },
    Kind { group: RBAC, plural: "clusterroles", name: "ClusterRole", namespaced: false },
    Kind {
        group: RBAC,
        plural: "clusterrolebindings",
        name: "ClusterRoleBinding",
        namespaced: false,
    },
    Kind { group: RBAC, plural: "roles", name: "Role", namespaced: true },
    Kind { group: RBAC, plural: "rolebindings", name: "RoleBinding", namespaced: true },
];

impl Kind {
    pub(super) fn find(group: &str, version: &str, plural: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.group == group && kind.plural == plural && version == "v1")
    }

    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() { "v1".to_owned() } else { format!("{}/v1", self.group) }
    }
}

#[derive(Clone, Default)]
pub(super) struct Objects {
    /// By plural, namespace (empty for cluster-scoped kinds) and name.
    pub(super) items: BTreeMap<(&'static str, String, String), Value>,
    pub(super) revision: u64,
}

impl Objects {
    pub(super) fn get(&self, plural: &'static str, namespace: &str, name: &str) -> Option<&Value> {
        self.items.get(&(plural, namespace.to_owned(), name.to_owned()))
    }

    pub(super) fn list(&self, plural: &str, namespace: &str) -> impl Iterator<Item = &Value> {
        let chosen = move |key: &(&str, String, String)| {
            key.0 == plural && (namespace.is_empty() || key.1 == namespace)
        };
        self.items.iter().filter(move |(key, _)| chosen(key)).map(|(_, object)| object)
    }

    pub(super) fn remove(
        &mut self,
        plural: &'static str,
        namespace: &str,
        name: &str,
    ) -> Option<Value> {
        self.revision += 1;
        self.items.remove(&(plural, namespace.to_owned(), name.to_owned()))
    }

    /// Stores `object` under the name in its metadata, with what the server adds to every object.
    pub(super) fn put(
        &mut self,
        kind: &Kind,
        namespace: &str,
        mut object: Value,
        created: String,
    ) -> Value {
        self.revision += 1;
        let name = text(&object, "/metadata/name").to_owned();
        set(&mut object, "kind", json!(kind.name));
        set(&mut object, "apiVersion", json!(kind.api_version()));
        if let Some(metadata) = object.get_mut("metadata") {
            set(metadata, "uid", json!(random_uuid()));
            set(metadata, "resourceVersion", json!(self.revision.to_string()));
            set(metadata, "creationTimestamp", json!(created));
            if kind.namespaced {
                set(metadata, "namespace", json!(namespace));
            }
        }
        if let Some(plural) = KINDS.iter().find(|known| *known == kind).map(|known| known.plural) {
            self.items.insert((plural, namespace.to_owned(), name), object.clone());
        }
        object
    }
}

/// What tests do with objects.
impl State {
    /// Creates `object`, and the namespace if it is not there; what is there already stays as it is. Returns the uid.
    pub(super) fn ensure(
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

/// The string at a JSON pointer, or the empty one: Kubernetes does not tell the two apart either.
pub(super) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn set(object: &mut Value, key: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}

pub(super) fn random_uuid() -> String {
    let mut bytes = [0u8; 16];
    // It fails only where the system has no random numbers, and then no key could have been made before.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    let number = u128::from_be_bytes(bytes);
    // RFC 9562: version 4 and variant 10.
    let number = number & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{number:032x}");
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a panic is how a test fails")]
mod tests {
    use super::random_uuid;

    #[test]
    fn uids_are_version_4_and_differ() {
        let uid = random_uuid();
        assert_eq!(uid.len(), 36);
        assert_eq!(uid.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&uid.as_bytes()[19]), "{uid}");
        assert_ne!(uid, random_uuid());
    }
}
