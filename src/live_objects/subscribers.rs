//! Who is told of the objects that end.

use std::{
    collections::HashSet,
    sync::{Arc, RwLock},
};

use super::kind::ObjectKind;
use crate::lock::{read, write};

/// Objects that were deleted, or got a deletion timestamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended<'a> {
    pub(crate) kind: ObjectKind,
    /// `None` if they may be in several namespaces.
    pub(crate) namespace: Option<&'a str>,
    pub(crate) uids: HashSet<String>,
}

/// Called with objects that ended. Returns false if it need not be called again.
pub(crate) type OnEnded = Arc<dyn Fn(&Ended<'_>) -> bool + Send + Sync>;

#[derive(Default)]
pub(super) struct Subscribers(RwLock<Vec<OnEnded>>);

impl Subscribers {
    pub(super) fn push(&self, on_ended: OnEnded) {
        write(&self.0).push(on_ended);
    }

    /// Calls all subscribers once. The index must show the end of these objects already: whoever
    /// read it before is told, and whoever reads it later sees the end.
    pub(super) fn report(&self, ended: &Ended<'_>) {
        if ended.uids.is_empty() {
            return;
        }
        // Not under the lock: a subscriber may call back.
        let subscribers = read(&self.0).clone();
        for on_ended in subscribers {
            if !on_ended(ended) {
                write(&self.0).retain(|other| !Arc::ptr_eq(other, &on_ended));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_subscriber_is_called_until_it_no_longer_wants_to() {
        let subscribers = Subscribers::default();
        let (calls, weak) = (Arc::new(AtomicU32::new(0)), Arc::new(()));
        let (counter, owner) = (calls.clone(), Arc::downgrade(&weak));
        subscribers.push(Arc::new(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            owner.upgrade().is_some()
        }));
        let report = |uids: &[&str]| {
            let uids = uids.iter().map(|uid| (*uid).to_owned()).collect();
            subscribers.report(&Ended { kind: ObjectKind::Pod, namespace: None, uids });
            calls.load(Ordering::Relaxed)
        };
        assert_eq!(report(&[]), 0);
        assert_eq!(report(&["a", "b", "c"]), 1, "once for all");
        drop(weak);
        assert_eq!(report(&["a"]), 2);
        assert_eq!(report(&["a"]), 2, "it is forgotten");
    }
}
