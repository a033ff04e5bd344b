//! What is watched: one scope for each kind and namespace, with its objects and its progress.

use std::{
    sync::{Arc, Mutex, RwLock},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::watch;

use super::{
    api_object::Metadata,
    index::Index,
    kind::ObjectKind,
    liveness::Liveness,
    pod_metadata::{PodMetadata, PodsByUid},
    subscribers::{Ended, OnEnded, Subscribers},
    uid::Uid,
    watch_state::{Progress, WatchPhase, WatchState},
};
use crate::{
    clock::Clock,
    lock::{lock, read, write},
    telemetry::{self, Gauges, Measure, SignsOfLife},
};

/// All scopes, in the order of kind and namespace.
pub(super) struct Scopes {
    pub(super) clock: Clock,
    scopes: Vec<Arc<Scope>>,
    subscribers: Arc<Subscribers>,
    /// Notified of each complete list.
    listed: Arc<watch::Sender<()>>,
    /// Of all namespaces, if they are kept.
    pods: Option<Arc<PodsByUid>>,
}

impl Scopes {
    /// Without namespaces, the whole cluster is watched.
    pub(super) fn new(
        kinds: &[ObjectKind],
        namespaces: &[String],
        keep_labels: bool,
        clock: Clock,
    ) -> Self {
        let (subscribers, listed) = (Arc::<Subscribers>::default(), Arc::default());
        let pods = keep_labels.then(Arc::<PodsByUid>::default);
        let mut places: Vec<(ObjectKind, Option<&String>)> = Vec::new();
        for kind in kinds {
            if kind.is_namespaced() && !namespaces.is_empty() {
                places.extend(namespaces.iter().map(|namespace| (*kind, Some(namespace))));
            } else {
                places.push((*kind, None));
            }
        }
        places.sort_unstable();
        places.dedup();
        let resources = places.iter().map(|(kind, _)| kind.resource());
        let signs_of_life = Arc::new(SignsOfLife::new(resources));
        let scope = |(number, (kind, namespace)): (usize, (ObjectKind, Option<&String>))| {
            let resource = kind.resource();
            let [listing, watching, broken] =
                WatchPhase::ALL.map(|phase| Measure::Watches(resource, phase.label()));
            let scope = Scope {
                number,
                kind,
                namespace: namespace.cloned(),
                index: RwLock::default(),
                progress: Mutex::new(Progress::new(clock.monotonic())),
                clock: clock.clone(),
                subscribers: subscribers.clone(),
                listed: Arc::clone(&listed),
                pods: pods.clone().filter(|_| kind == ObjectKind::Pod),
                gauges: Gauges::new([Measure::LiveObjects(resource), listing, watching, broken]),
                signs_of_life: signs_of_life.clone(),
            };
            scope.publish();
            Arc::new(scope)
        };
        let scopes = places.into_iter().enumerate().map(scope).collect();
        Self { clock: clock.clone(), scopes, subscribers, listed, pods }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Scope>> {
        self.scopes.iter()
    }

    pub(super) fn liveness(
        &self,
        kind: ObjectKind,
        namespace: Option<&str>,
        name: &str,
        uid: &str,
    ) -> Liveness {
        let namespace = namespace.filter(|_| kind.is_namespaced());
        let find = |place: (ObjectKind, Option<&str>)| {
            let found = self.scopes.binary_search_by(|scope| scope.place().cmp(&place));
            found.ok().and_then(|position| self.scopes.get(position))
        };
        let Some(scope) = find((kind, None)).or_else(|| find((kind, namespace))) else {
            return Liveness::NotWatched;
        };
        read(&scope.index).liveness(namespace.unwrap_or_default(), name, uid)
    }

    pub(super) fn pod(&self, uid: &str) -> Option<Arc<PodMetadata>> {
        self.pods.as_ref()?.get(uid)
    }

    /// Returns how long ago all scopes were current; `None` if one has not been listed yet.
    pub(super) fn staleness(&self) -> Option<Duration> {
        let now = self.clock.monotonic();
        self.scopes.iter().try_fold(Duration::ZERO, |longest, scope| {
            let at = lock(&scope.progress).last_sign_of_life?;
            Some(longest.max(now.saturating_duration_since(at)))
        })
    }

    /// Waits until each scope has been listed once.
    pub(super) async fn listed(&self) {
        let mut listed = self.listed.subscribe();
        let is_listed = |scope: &Arc<Scope>| lock(&scope.progress).last_sign_of_life.is_some();
        // The sender lives in `self`, so the wait ends only with the condition.
        let _ = listed.wait_for(|()| self.scopes.iter().all(is_listed)).await;
    }

    pub(super) fn subscribe(&self, on_ended: OnEnded) {
        self.subscribers.push(on_ended);
    }
}

/// One kind in one namespace, or in the cluster.
pub(super) struct Scope {
    /// The position among all scopes.
    number: usize,
    pub(super) kind: ObjectKind,
    pub(super) namespace: Option<String>,
    index: RwLock<Index>,
    progress: Mutex<Progress>,
    clock: Clock,
    subscribers: Arc<Subscribers>,
    listed: Arc<watch::Sender<()>>,
    pods: Option<Arc<PodsByUid>>,
    gauges: Gauges<4>,
    signs_of_life: Arc<SignsOfLife>,
}

/// An object of a list or an event.
pub(super) struct SeenObject<'a> {
    pub(super) metadata: &'a Metadata<'a>,
    /// Its deletion timestamp.
    pub(super) deleting: Option<SystemTime>,
    /// If it is a Pod and the scope [keeps](Scope::keeps_pods) them.
    pub(super) pod: Option<PodMetadata>,
}

impl Scope {
    fn place(&self) -> (ObjectKind, Option<&str>) {
        (self.kind, self.namespace.as_deref())
    }

    pub(super) fn state(&self) -> WatchState {
        let objects = read(&self.index).len();
        let namespace = self.namespace.as_deref();
        lock(&self.progress).state(self.kind.resource(), namespace, objects, &self.clock)
    }

    pub(super) fn begin_listing(&self) {
        write(&self.index).begin_listing();
    }

    /// Whether labels and owners are kept.
    pub(super) fn keeps_pods(&self) -> bool {
        self.pods.is_some()
    }

    /// Objects of a page of a list, or one that an event brings.
    pub(super) fn insert<'a>(&self, objects: impl IntoIterator<Item = SeenObject<'a>>) {
        let (mut ended, mut marked) = (Vec::new(), Vec::new());
        let mut index = write(&self.index);
        for SeenObject { metadata, deleting, pod } in objects {
            let Metadata { namespace, name, uid, .. } = metadata;
            let [replaced, newly_marked] = index.insert(namespace, name, uid, deleting);
            ended.extend(replaced);
            marked.extend(newly_marked);
            if let (Some(pods), Some(pod)) = (&self.pods, pod) {
                pods.insert(uid, pod);
            }
        }
        drop(index);
        self.forget_pods(&ended);
        self.report(None, ended.iter().chain(&marked));
    }

    pub(super) fn remove(&self, object: &Metadata<'_>) {
        let Metadata { namespace, name, uid, .. } = object;
        write(&self.index).remove(namespace, name, uid);
        let uid = [Uid::new(uid)];
        self.forget_pods(&uid);
        self.report(Some(namespace), &uid);
    }

    /// The objects are those of the moment at which the list was requested. `reason` is why it was
    /// needed.
    pub(super) fn end_listing(&self, requested: Instant, reason: &'static str) {
        let missing = write(&self.index).end_listing();
        self.forget_pods(&missing);
        self.report(None, &missing);
        let mut progress = lock(&self.progress);
        progress.lists += 1;
        progress.last_sign_of_life = Some(requested);
        drop(progress);
        telemetry::objects_listed(self.kind.resource(), reason);
        self.publish();
        self.listed.send_replace(());
    }

    fn forget_pods(&self, uids: &[Uid]) {
        if let Some(pods) = self.pods.as_ref().filter(|_| !uids.is_empty()) {
            pods.remove(uids);
        }
    }

    /// Tells the subscribers what the index shows already.
    fn report<'a>(&self, namespace: Option<&str>, uids: impl IntoIterator<Item = &'a Uid>) {
        let namespace = self.namespace.as_deref().or(namespace);
        let uids = uids.into_iter().map(Uid::to_string).collect();
        self.subscribers.report(&Ended { kind: self.kind, namespace, uids });
    }

    pub(super) fn event(&self, is_bookmark: bool) {
        let mut progress = lock(&self.progress);
        progress.events += u64::from(!is_bookmark);
        progress.last_sign_of_life = Some(self.clock.monotonic());
        drop(progress);
        if !is_bookmark {
            telemetry::object_event(self.kind.resource());
        }
        self.publish();
    }

    pub(super) fn enter(&self, phase: WatchPhase) {
        lock(&self.progress).enter(phase, self.clock.monotonic());
        self.publish();
    }

    pub(super) fn fail(&self, failure: String) {
        let mut progress = lock(&self.progress);
        progress.enter(WatchPhase::Broken, self.clock.monotonic());
        progress.last_failure = Some(failure);
        drop(progress);
        self.publish();
    }

    fn publish(&self) {
        self.gauges.publish(|| {
            let (objects, phase) = (read(&self.index).len(), lock(&self.progress).phase);
            let [listing, watching, broken] = WatchPhase::ALL.map(|it| u64::from(it == phase));
            [objects as u64, listing, watching, broken]
        });
        let last_sign = || lock(&self.progress).last_sign_of_life(&self.clock);
        self.signs_of_life.publish(self.number, last_sign);
    }
}
