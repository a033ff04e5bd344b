//! Object store of the API server: ServiceAccounts, Pods, Secrets and RBAC objects.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::history::{Change, History, Key};

/// A kind of object and its API path.
#[derive(Debug, PartialEq)]
pub(super) struct Kind {
    pub(super) group: &'static str,
    pub(super) plural: &'static str,
    pub(super) name: &'static str,
    pub(super) namespaced: bool,
}

const RBAC: &str = "rbac.authorization.k8s.io";

pub(super) const KINDS: [Kind; 9] = [
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
    items: BTreeMap<Key, Value>,
    /// The resource version of the latest change.
    pub(super) revision: u64,
    pub(super) history: History,
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
        let key = (plural, namespace.to_owned(), name.to_owned());
        if self.items.contains_key(&key) { self.write(key, None) } else { None }
    }

    /// Removes every object in `namespace`.
    pub(super) fn remove_namespaced(&mut self, namespace: &str) {
        let keys: Vec<_> = self.items.keys().filter(|key| key.1 == namespace).cloned().collect();
        for key in keys {
            self.write(key, None);
        }
    }

    /// Returns the objects of a kind as of `revision`, or `None` if it is compacted or in the
    /// future.
    pub(super) fn list_as_of(
        &self,
        plural: &str,
        namespace: &str,
        revision: u64,
    ) -> Option<Vec<&Value>> {
        if !self.history.is_known_since(revision) || revision > self.revision {
            return None;
        }
        let is_chosen = |key: &Key| key.0 == plural && (namespace.is_empty() || key.1 == namespace);
        let mut items: BTreeMap<&Key, &Value> =
            self.items.iter().filter(|(key, _)| is_chosen(key)).collect();
        for change in self.history.since(revision).rev().filter(|change| is_chosen(&change.key)) {
            match &change.before {
                Some(before) => items.insert(&change.key, before),
                None => items.remove(&change.key),
            };
        }
        Some(items.into_values().collect())
    }

    /// Returns to `revision`. Returns false, and changes nothing, if it is compacted or in the
    /// future.
    pub(super) fn restore(&mut self, revision: u64) -> bool {
        if !self.history.is_known_since(revision) || revision > self.revision {
            return false;
        }
        while let Some(change) = self.history.take_newest(revision) {
            match &change.before {
                Some(before) => self.items.insert(change.key.clone(), before.clone()),
                None => self.items.remove(&change.key),
            };
        }
        self.revision = revision;
        true
    }

    /// Stores or removes an object under the next revision. Returns the object before.
    fn write(&mut self, key: Key, mut after: Option<Value>) -> Option<Value> {
        self.revision += 1;
        if let Some(metadata) = after.as_mut().and_then(|object| object.get_mut("metadata")) {
            set(metadata, "resourceVersion", json!(self.revision.to_string()));
        }
        let before = match after.clone() {
            Some(object) => self.items.insert(key.clone(), object),
            None => self.items.remove(&key),
        };
        self.history.record(Change { revision: self.revision, key, before: before.clone(), after });
        before
    }

    /// Replaces a stored object, unless it is the same. Returns it as it is stored.
    pub(super) fn update(&mut self, plural: &'static str, object: &Value) -> Value {
        let (namespace, name) =
            (text(object, "/metadata/namespace"), text(object, "/metadata/name"));
        let key = (plural, namespace.to_owned(), name.to_owned());
        if self.items.get(&key) != Some(object) {
            self.write(key.clone(), Some(object.clone()));
        }
        self.items.get(&key).cloned().unwrap_or_default()
    }

    /// Stores `object` under the name in its metadata, with the metadata that the server sets.
    pub(super) fn put(
        &mut self,
        kind: &Kind,
        namespace: &str,
        mut object: Value,
        created: String,
    ) -> Value {
        let name = text(&object, "/metadata/name").to_owned();
        set(&mut object, "kind", json!(kind.name));
        set(&mut object, "apiVersion", json!(kind.api_version()));
        if let Some(metadata) = object.get_mut("metadata") {
            set(metadata, "uid", json!(random_uuid()));
            set(metadata, "creationTimestamp", json!(created));
            if kind.namespaced {
                set(metadata, "namespace", json!(namespace));
            }
        }
        if let Some(plural) = KINDS.iter().find(|known| *known == kind).map(|known| known.plural) {
            let key = (plural, namespace.to_owned(), name);
            self.write(key.clone(), Some(object.clone()));
            return self.items.get(&key).cloned().unwrap_or(object);
        }
        object
    }
}

/// Returns the string at a JSON pointer. A missing one is empty, as in Kubernetes.
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
    // Fails only without random numbers, and then the cluster could not generate its key.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    let number = u128::from_be_bytes(bytes);
    // RFC 9562, section 5.4: version 4 and variant 10.
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
