//! Labels and owners of the watched Pods, which are kept only if a service asks for them.

use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
};

use serde::Deserialize;

use super::uid::Uid;
use crate::lock::{read, write};

/// Labels and owner references of a Pod.
///
/// They are no credentials: whoever may create a Pod chooses its labels. Labels of more than 16 KiB
/// as JSON are not kept, nor are such owner references: the Pod appears to have none.
///
/// [`LiveObjects::pod`](super::LiveObjects::pod) has an example.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodMetadata {
    /// Sorted by key.
    labels: Box<[(Box<str>, Box<str>)]>,
    owner_references: Box<[OwnerReference]>,
}

impl PodMetadata {
    pub(super) fn new(
        labels: impl IntoIterator<Item = (Box<str>, Box<str>)>,
        owner_references: Box<[OwnerReference]>,
    ) -> Self {
        let mut labels: Box<[_]> = labels.into_iter().collect();
        labels.sort_unstable();
        Self { labels, owner_references }
    }

    /// Returns the value of the label `key`.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        let found = self.labels.binary_search_by(|(known, _)| (**known).cmp(key)).ok();
        found.and_then(|position| self.labels.get(position)).map(|(_, value)| &**value)
    }

    /// Returns all labels, sorted by key.
    #[must_use]
    pub fn labels(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.labels.iter().map(|(key, value)| (&**key, &**value))
    }

    /// Returns the objects that own the Pod, such as a ReplicaSet.
    #[must_use]
    pub fn owner_references(&self) -> &[OwnerReference] {
        &self.owner_references
    }

    /// Returns the owner that manages the Pod: the one reference with `controller: true`.
    #[must_use]
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owner_references.iter().find(|owner| owner.controller)
    }
}

/// An owner of an object: `OwnerReference` of Kubernetes' `meta/v1`.
///
/// [`LiveObjects::pod`](super::LiveObjects::pod) has an example.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct OwnerReference {
    /// The group and version of the owner's API, such as `apps/v1`.
    pub api_version: Box<str>,
    /// The owner's kind, such as `ReplicaSet`.
    pub kind: Box<str>,
    /// The owner's name.
    pub name: Box<str>,
    /// The owner's UID.
    pub uid: Box<str>,
    /// Whether it is the controller that manages the object. At most one owner is.
    pub controller: bool,
}

/// The metadata of all Pods that exist, by UID.
#[derive(Default)]
pub(super) struct PodsByUid(RwLock<HashMap<Uid, Arc<PodMetadata>>>);

impl PodsByUid {
    pub(super) fn get(&self, uid: &str) -> Option<Arc<PodMetadata>> {
        read(&self.0).get(&Uid::new(uid)).cloned()
    }

    pub(super) fn insert(&self, uid: &str, pod: PodMetadata) {
        let (uid, mut pods) = (Uid::new(uid), write(&self.0));
        // Most events of a Pod change its status only.
        if pods.get(&uid).is_none_or(|known| **known != pod) {
            pods.insert(uid, Arc::new(pod));
        }
    }

    pub(super) fn remove<'a>(&self, uids: impl IntoIterator<Item = &'a Uid>) {
        let mut pods = write(&self.0);
        for uid in uids {
            pods.remove(uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_labels_replaces_what_was_kept() {
        let pod = |value: &str| PodMetadata::new([("app".into(), value.into())], Box::default());
        let pods = PodsByUid::default();
        pods.insert("u", pod("web"));
        let first = pods.get("u").unwrap();
        pods.insert("u", pod("web"));
        assert!(Arc::ptr_eq(&first, &pods.get("u").unwrap()), "an update of the status");
        pods.insert("u", pod("shop"));
        assert_eq!(pods.get("u").unwrap().label("app"), Some("shop"));
    }
}
