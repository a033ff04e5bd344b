//! Changes of the stored objects, and the open watches that receive them.

use std::{collections::VecDeque, sync::Arc};

use serde_json::Value;
use tokio::sync::mpsc;

/// Number of changes that are remembered. Older ones are compacted.
const CAPACITY: usize = 20_000;

/// Plural, namespace (empty for cluster-scoped kinds) and name.
pub(super) type Key = (&'static str, String, String);

/// One change of one object, with enough to deliver it and to undo it.
pub(super) struct Change {
    pub(super) revision: u64,
    pub(super) key: Key,
    pub(super) before: Option<Value>,
    pub(super) after: Option<Value>,
}

impl Change {
    /// Returns the type and the object of the watch event. A deleted object is its last state under
    /// the resource version of the deletion.
    pub(super) fn event(&self) -> (&'static str, Value) {
        let (event, object) = match (&self.before, &self.after) {
            (None, after) => ("ADDED", after),
            (Some(_), Some(_)) => ("MODIFIED", &self.after),
            (before, None) => ("DELETED", before),
        };
        let mut object = object.clone().unwrap_or_default();
        if let Some(version) = object.pointer_mut("/metadata/resourceVersion") {
            *version = self.revision.to_string().into();
        }
        (event, object)
    }

    fn is_in(&self, plural: &str, namespace: &str) -> bool {
        self.key.0 == plural && (namespace.is_empty() || self.key.1 == namespace)
    }
}

/// What an open watch receives.
pub(super) enum Delivery {
    Change(Arc<Change>),
    /// Nothing follows, and the connection stays open.
    Stall,
}

/// The changes since the last compaction.
#[derive(Clone, Default)]
pub(super) struct History {
    changes: VecDeque<Arc<Change>>,
    /// Changes up to this revision are forgotten.
    compacted: u64,
    watches: Vec<Subscription>,
}

/// The subscription of an open watch. An empty namespace means all.
#[derive(Clone)]
struct Subscription {
    plural: &'static str,
    namespace: String,
    after: u64,
    sender: mpsc::UnboundedSender<Delivery>,
}

impl History {
    pub(super) fn record(&mut self, change: Change) {
        let change = Arc::new(change);
        self.watches.retain(|watch| {
            let is_wanted =
                change.is_in(watch.plural, &watch.namespace) && change.revision > watch.after;
            if is_wanted {
                watch.sender.send(Delivery::Change(change.clone())).is_ok()
            } else {
                !watch.sender.is_closed()
            }
        });
        self.changes.push_back(change);
        if self.changes.len() > CAPACITY
            && let Some(oldest) = self.changes.pop_front()
        {
            self.compacted = oldest.revision;
        }
    }

    pub(super) fn is_known_since(&self, revision: u64) -> bool {
        revision >= self.compacted
    }

    /// Returns the changes after `revision`, oldest first.
    pub(super) fn since(
        &self,
        revision: u64,
    ) -> impl DoubleEndedIterator<Item = &Arc<Change>> + use<'_> {
        self.changes.iter().filter(move |change| change.revision > revision)
    }

    /// Opens a watch of the changes after `revision`. A revision in the future is not an error:
    /// changes up to it are not delivered, as in kube-apiserver.
    pub(super) fn subscribe(
        &mut self,
        plural: &'static str,
        namespace: &str,
        after: u64,
    ) -> mpsc::UnboundedReceiver<Delivery> {
        let (sender, receiver) = mpsc::unbounded_channel();
        for change in self.since(after).filter(|change| change.is_in(plural, namespace)) {
            // Cannot fail: the receiver is alive.
            let _ = sender.send(Delivery::Change(change.clone()));
        }
        self.watches.push(Subscription { plural, namespace: namespace.to_owned(), after, sender });
        receiver
    }

    pub(super) fn stall_watches(&mut self) {
        for watch in self.watches.drain(..) {
            // Fails for a watch whose client is gone.
            let _ = watch.sender.send(Delivery::Stall);
        }
    }

    pub(super) fn compact(&mut self, revision: u64) {
        self.changes.retain(|change| change.revision > revision);
        self.compacted = self.compacted.max(revision);
    }

    /// Removes and returns the newest change after `revision`, to be undone.
    pub(super) fn take_newest(&mut self, revision: u64) -> Option<Arc<Change>> {
        let is_newer = self.changes.back().is_some_and(|change| change.revision > revision);
        if is_newer { self.changes.pop_back() } else { None }
    }
}
