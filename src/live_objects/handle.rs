//! The handle of the watched objects.

use std::{fmt, sync::Arc, time::Duration};

use tokio::{runtime::Handle, task::JoinSet};

use super::{
    kind::ObjectKind, liveness::Liveness, pod_metadata::PodMetadata, scope::Scopes,
    subscribers::OnEnded, watch_state::WatchState, watcher::Watcher,
};
use crate::{
    api_server::ApiServer,
    background_task::{BackgroundTask, RunningGuard},
    warn_limit::WarnLimit,
};

/// ServiceAccounts and Pods of the cluster, kept current by a watch of their metadata.
///
/// Clones share the watch, which ends when the last one is dropped. See the
/// [module's documentation](super).
#[derive(Clone)]
pub struct LiveObjects(Arc<Owner>);

/// The state that the handles share. The task does not hold it, so it ends with the handles.
struct Owner {
    server: ApiServer,
    scopes: Arc<Scopes>,
    task: BackgroundTask,
}

impl LiveObjects {
    /// Starts to watch if there is a Tokio runtime, else with the first use.
    pub(super) fn new(server: ApiServer, scopes: Scopes) -> Self {
        let task = BackgroundTask::default();
        let live_objects = Self(Arc::new(Owner { server, scopes: Arc::new(scopes), task }));
        live_objects.start();
        live_objects
    }

    /// Waits until all objects have been listed once. That takes for ever if this service may not
    /// list them, and until the API server answers: set a time limit, and log
    /// [`state`](Self::state) if it passes.
    ///
    /// The watch starts with this call if it was built outside of a Tokio runtime.
    pub async fn synced(&self) {
        self.start();
        self.0.scopes.listed().await;
    }

    /// Returns the state of each watch: one for each kind and namespace.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tower_kube_auth::{LiveObjects, live_objects::WatchPhase, testing::Cluster};
    ///
    /// let cluster = Cluster::start().await?;
    /// cluster.create_service_account("shop", "checkout");
    /// let live_objects = LiveObjects::builder(cluster.admin_client()?).build()?;
    /// live_objects.synced().await;
    /// let state = live_objects.state();
    /// assert_eq!((state[0].resource, state[0].lists), ("serviceaccounts", 1));
    /// assert_eq!((state[1].resource, state[1].objects), ("pods", 0));
    /// assert!(state.iter().all(|watch| watch.phase != WatchPhase::Broken));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn state(&self) -> Vec<WatchState> {
        self.0.scopes.iter().map(|scope| scope.state()).collect()
    }

    /// Returns the labels and the owners of the Pod with this UID, for example of the one that
    /// [`ServiceAccountIdentity::pod`](crate::ServiceAccountIdentity::pod) names.
    ///
    /// `None` without [`keep_labels`](super::LiveObjectsBuilder::keep_labels), if the watch has not
    /// seen the Pod yet, and once it is deleted. A lookup in memory: while the watch is broken, it
    /// returns what the watch saw last. [`state`](Self::state) tells how long ago that was.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tower_kube_auth::{LiveObjects, ServiceAccountIdentity, testing::Cluster};
    ///
    /// /// Returns the name of the caller's ReplicaSet, StatefulSet, DaemonSet or Job.
    /// fn workload(live_objects: &LiveObjects, caller: &ServiceAccountIdentity) -> Option<String> {
    ///     let pod = live_objects.pod(caller.pod()?.uid?)?;
    ///     Some(pod.controller()?.name.to_string())
    /// }
    ///
    /// let cluster = Cluster::start().await?;
    /// let uid = cluster.create_pod("shop", "checkout-0", "checkout");
    /// let live_objects = LiveObjects::builder(cluster.admin_client()?).keep_labels().build()?;
    /// live_objects.synced().await;
    /// let pod = live_objects.pod(&uid).ok_or("the Pod")?;
    /// assert_eq!((pod.label("app"), pod.controller()), (None, None));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn pod(&self, uid: &str) -> Option<Arc<PodMetadata>> {
        self.start();
        self.0.scopes.pod(uid)
    }

    /// Returns what is known about the object with this UID. `namespace` is `None` for a Node.
    pub(crate) fn liveness(
        &self,
        kind: ObjectKind,
        namespace: Option<&str>,
        name: &str,
        uid: &str,
    ) -> Liveness {
        self.start();
        self.0.scopes.liveness(kind, namespace, name, uid)
    }

    /// Whether all objects were listed, and each watch gave a sign of life within `max_staleness`.
    ///
    /// A watch without events gives one about once a minute, and is replaced after 75 s without
    /// any: `max_staleness` below 90 s makes it not current now and then.
    pub(crate) fn is_current(&self, max_staleness: Duration) -> bool {
        self.remaining_currency(max_staleness).is_some()
    }

    /// Returns for how long this stays so without a further sign of life; `None` if it is not so.
    pub(crate) fn remaining_currency(&self, max_staleness: Duration) -> Option<Duration> {
        self.start();
        max_staleness.checked_sub(self.0.scopes.staleness()?)
    }

    /// Calls `on_ended` for deletions and new deletion timestamps from now on, after
    /// [`liveness`](Self::liveness) shows them: whoever read that an object is live before it was
    /// deleted is told of its deletion afterwards.
    pub(crate) fn subscribe(&self, on_ended: OnEnded) {
        self.start();
        self.0.scopes.subscribe(on_ended);
    }

    /// Starts the task, unless it runs or there is no runtime.
    fn start(&self) {
        let Owner { server, scopes, task } = &*self.0;
        if !task.is_running()
            && let Ok(runtime) = Handle::try_current()
        {
            task.start(&runtime, |running| watch(running, server.clone(), scopes.clone()));
        }
    }
}

/// Watches all scopes. Returns if one of them panics, so that the next use starts all again.
async fn watch(running: RunningGuard, server: ApiServer, scopes: Arc<Scopes>) {
    let _running = running;
    let warn_limit = Arc::new(WarnLimit::default());
    let mut watches = JoinSet::new();
    for scope in scopes.iter() {
        let (scope, clock) = (scope.clone(), scopes.clock.clone());
        watches.spawn(Watcher::new(scope, server.clone(), clock, warn_limit.clone()).run());
    }
    watches.join_next().await;
}

impl fmt::Debug for LiveObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveObjects").field("state", &self.state()).finish()
    }
}
