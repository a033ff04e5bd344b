//! The handle of the watched objects.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{kind::ObjectKind, liveness::Liveness};
use crate::{api_server::ApiServer, lock::lock};

/// Called with the kind and the UID of each object that is deleted.
pub(crate) type OnDeleted = Arc<dyn Fn(ObjectKind, &str) + Send + Sync>;

/// ServiceAccounts and Pods of the cluster, kept current by a watch of their metadata.
///
/// Clones share the watch, which ends when the last one is dropped.
#[derive(Clone)]
pub struct LiveObjects(Arc<Shared>);

struct Shared {
    _server: ApiServer,
    subscribers: Mutex<Vec<OnDeleted>>,
}

impl LiveObjects {
    pub(super) fn new(server: ApiServer) -> Self {
        Self(Arc::new(Shared { _server: server, subscribers: Mutex::default() }))
    }

    /// Waits until all watched objects are known.
    pub async fn synced(&self) {
        std::future::pending().await
    }

    /// Returns what is known about the object with this UID. `namespace` is `None` for a Node.
    pub(crate) fn liveness(
        &self,
        _kind: ObjectKind,
        _namespace: Option<&str>,
        _name: &str,
        _uid: &str,
    ) -> Liveness {
        Liveness::Unknown
    }

    /// Whether all watches are synced and gave a sign of life within `max_staleness`.
    pub(crate) fn is_current(&self, _max_staleness: Duration) -> bool {
        false
    }

    /// Calls `on_deleted` for each deletion from now on, after [`liveness`](Self::liveness) shows
    /// it.
    pub(crate) fn subscribe(&self, on_deleted: OnDeleted) {
        lock(&self.0.subscribers).push(on_deleted);
    }
}

impl fmt::Debug for LiveObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveObjects").finish_non_exhaustive()
    }
}
