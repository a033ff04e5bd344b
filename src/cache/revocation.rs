//! Acceptances that end with the objects of their identity, which a watch knows.

use std::sync::Arc;

use super::{
    invalidations::Invalidation, load::Load, read_through::ReadThroughCache,
    verdict_cache::VerdictCache,
};
use crate::{
    identity::ServiceAccountIdentity,
    live_objects::{Ended, LiveObjects, NamedObject, ObjectKind, remaining},
};

impl VerdictCache {
    /// Caches no acceptance beyond the objects that its identity names.
    pub(crate) fn revoked_by(self, live_objects: &LiveObjects) -> Self {
        let live_objects = live_objects.clone();
        self.limited_by(Arc::new(move |identity, now| {
            let liveness_of = |object: &_| live_objects.liveness_of(object);
            remaining(NamedObject::of_identity(identity), liveness_of, now)
        }))
    }
}

impl<L: Load> ReadThroughCache<L> {
    /// Drops acceptances when an object of their identity is deleted, or gets a deletion timestamp,
    /// which limits those that are inserted later.
    ///
    /// An acceptance is inserted only if the watch does not know of a deletion, and a deletion drops
    /// what was inserted before the watch knew. So none survives, and there is no log whose capacity
    /// a busy cluster could exceed. Flights go on: their followers ask the watch once more.
    ///
    /// The watch cannot say which acceptances end with a Secret. So the log has its namespace, and
    /// flights that began before its deletion may still be followed after it.
    pub(crate) fn drop_deleted(self: &Arc<Self>, live_objects: &LiveObjects) {
        let cache = Arc::downgrade(self);
        live_objects.subscribe(Arc::new(move |ended| {
            let Some(cache) = cache.upgrade() else { return false };
            if ended.kind == ObjectKind::Secret {
                let namespace = ended.namespace.map(Into::into);
                let unbound = Invalidation::BoundToNeitherPodNorNode(namespace);
                cache.invalidate_without_detaching(&unbound);
            } else {
                cache.drop_ended(|identity| names_one_of(identity, ended));
            }
            true
        }));
    }
}

/// Whether `identity` names one of the objects that ended.
fn names_one_of(identity: &ServiceAccountIdentity, ended: &Ended<'_>) -> bool {
    let object = NamedObject::of_kind(ended.kind, identity);
    object.and_then(|object| object.uid).is_some_and(|uid| ended.uids.contains(uid))
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        sync::{
            Mutex,
            atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
            mpsc,
        },
        thread,
        time::{Duration, SystemTime},
    };

    use shuttle::{Config, Runner, scheduler::DfsScheduler};

    use super::*;
    use crate::{
        cache::{Capacities, Lifetimes, Limit, Lookup, verdict_cache::Remaining},
        clock::{Clock, manual::ManualClock},
        sync_point::{set_sync_point_hook, sync_point},
        telemetry::Stage,
        testing::IdentityBuilder,
        verdict::{Acceptance, Outcome, RejectReason, Verdict},
    };

    const MINUTE: Duration = Duration::from_secs(60);
    const DELETED: Verdict = Verdict::Reject(RejectReason::Deleted);

    thread_local! { static IS_EXPLORING: Cell<bool> = const { Cell::new(false) } }

    fn yield_while_exploring() {
        if IS_EXPLORING.get() {
            shuttle::thread::yield_now();
        }
    }

    /// Accepts always, as an API server does from its cache for 10 s after a deletion.
    #[derive(Default)]
    struct Accepting {
        is_synchronous: bool,
        calls: AtomicUsize,
    }

    impl Load for Accepting {
        type Input = ();
        const NAME: &'static str = "the loader";
        const STAGE: Stage = Stage::Authentication;

        async fn load(&self, (): &()) -> Outcome {
            self.calls.fetch_add(1, SeqCst);
            sync_point();
            Ok(accepted())
        }

        fn load_now(&self, (): &()) -> Option<Outcome> {
            sync_point();
            self.is_synchronous.then(|| Ok(accepted()))
        }
    }

    fn identity() -> ServiceAccountIdentity {
        IdentityBuilder::new("ns", "sa").uid("sa-uid").build()
    }

    fn accepted() -> Verdict {
        Verdict::Accept(Acceptance::new(identity()))
    }

    fn has_ended(identity: &ServiceAccountIdentity) -> bool {
        identity.uid() == "sa-uid"
    }

    type Cache = Arc<ReadThroughCache<Accepting>>;

    fn cache(clock: &Clock, is_synchronous: bool, remaining: Remaining) -> Cache {
        let lifetimes = Lifetimes { accepted: MINUTE, rejected: MINUTE, stale: MINUTE };
        let capacities = Capacities { accepted: 9, rejected: 9 };
        let verdicts = VerdictCache::new(capacities, lifetimes, clock.clone()).unwrap();
        let limit = Limit::new(4, MINUTE, clock.clone());
        let loader = Accepting { is_synchronous, ..Accepting::default() };
        let verdicts = verdicts.limited_by(remaining);
        Arc::new(ReadThroughCache::new(verdicts, loader, limit, MINUTE, clock.clone()))
    }

    /// Returns the way in which an authenticator asks.
    async fn request(cache: &Cache) -> Verdict {
        let digest = cache.digest(b"token");
        if let Some(hit) = cache.accepted(&digest, || Some(())) {
            return Verdict::Accept(Acceptance::new(hit.identity));
        }
        if let Some(verdict) = cache.rejected_or_stale(&digest, || Some(())) {
            return verdict;
        }
        if let Some(outcome) = cache.decide_now(digest, |loader| loader.load_now(&())) {
            return outcome.unwrap();
        }
        match cache.load(digest, || ()) {
            Lookup::Decided(outcome) => outcome.unwrap(),
            Lookup::Waiting(waiting) => waiting.await.unwrap(),
        }
    }

    #[test]
    fn no_accept_survives_the_deletion_in_any_schedule() {
        for is_synchronous in [false, true] {
            let test = move || {
                let is_deleted = Arc::new(AtomicBool::new(false));
                let known = Arc::clone(&is_deleted);
                let remaining: Remaining =
                    Arc::new(move |_, _| (!known.load(SeqCst)).then_some(Duration::MAX));
                let cache = cache(&ManualClock::new().clock(), is_synchronous, remaining);
                let before = {
                    let cache = Arc::clone(&cache);
                    shuttle::thread::spawn(move || shuttle::future::block_on(request(&cache)))
                };
                sync_point();
                is_deleted.store(true, SeqCst);
                cache.drop_ended(has_ended);
                for _ in 0..2 {
                    assert_eq!(shuttle::future::block_on(request(&cache)), DELETED);
                }
                before.join().unwrap();
                assert_eq!(shuttle::future::block_on(request(&cache)), DELETED);
            };
            set_sync_point_hook(yield_while_exploring);
            IS_EXPLORING.set(true);
            let mut config = Config::new();
            config.stack_size = 0x8_0000;
            let schedules = Runner::new(DfsScheduler::new(None, false), config).run(test);
            IS_EXPLORING.set(false);
            assert!(schedules > 50, "the threads do not meet: {schedules} schedules");
        }
    }

    /// The points of a schedule are not under a lock, so this order needs threads.
    #[test]
    fn a_deletion_waits_for_an_insertion_that_has_asked_before_it() {
        let (asked, has_asked) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel();
        let may_go_on = Mutex::new(may_go_on);
        // The first question is the outcome's, the second the insertion's.
        let questions = AtomicUsize::new(0);
        let remaining: Remaining = Arc::new(move |_, _| {
            if questions.fetch_add(1, SeqCst) == 1 {
                asked.send(()).unwrap();
                may_go_on.lock().unwrap().recv().unwrap();
            }
            Some(Duration::MAX)
        });
        let cache = cache(&Clock::system(), true, remaining);
        let digest = cache.digest(b"token");
        thread::scope(|scope| {
            let deciding =
                scope.spawn(|| cache.decide_now(digest, |loader| loader.load_now(&())).unwrap());
            has_asked.recv().unwrap();
            let (dropped, has_dropped) = mpsc::channel();
            let cache = &cache;
            scope.spawn(move || {
                cache.drop_ended(has_ended);
                dropped.send(()).unwrap();
            });
            let early = has_dropped.recv_timeout(Duration::from_millis(200));
            go_on.send(()).unwrap();
            deciding.join().unwrap().unwrap();
            assert!(early.is_err(), "it has looked before the insertion");
            has_dropped.recv().unwrap();
        });
        assert!(cache.accepted(&digest, || None).is_none());
    }

    #[tokio::test]
    async fn an_acceptance_ends_with_the_deletion_timestamp_of_its_object() {
        let (clock, left) = (ManualClock::new(), MINUTE / 2);
        let end = clock.clock().wall() + left;
        let remaining: Remaining = Arc::new(move |_, now: SystemTime| end.duration_since(now).ok());
        let cache = cache(&clock.clock(), false, remaining);
        assert_eq!(request(&cache).await, accepted());
        clock.advance(left - Duration::from_millis(1));
        assert_eq!(request(&cache).await, accepted());
        assert_eq!(cache.loader().calls.load(SeqCst), 1, "cached until then");
        clock.advance(Duration::from_millis(2));
        assert_eq!(request(&cache).await, DELETED, "neither fresh nor stale");
    }

    #[tokio::test]
    async fn other_acceptances_stay() {
        let cache = cache(&Clock::system(), false, Arc::new(|_, _| Some(Duration::MAX)));
        assert_eq!(request(&cache).await, accepted());
        cache.drop_ended(|_| false);
        assert_eq!(request(&cache).await, accepted());
        assert_eq!(cache.loader().calls.load(SeqCst), 1);
        cache.drop_ended(has_ended);
        assert_eq!(request(&cache).await, accepted());
        assert_eq!(cache.loader().calls.load(SeqCst), 2);
    }

    #[test]
    fn an_identity_ends_with_its_account_its_pod_or_else_its_node() {
        let on_node = || IdentityBuilder::new("ns", "sa").uid("sa-uid").node("node", "node-uid");
        let ends = |identity: IdentityBuilder, kind, uids: &[&str]| {
            let uids = uids.iter().map(|uid| (*uid).to_owned()).collect();
            names_one_of(&identity.build(), &Ended { kind, namespace: None, uids })
        };
        let of_pod = || on_node().pod("pod", "pod-uid");
        for (identity, kind, uids, expected) in [
            (of_pod(), ObjectKind::ServiceAccount, &["a", "sa-uid", "b"][..], true),
            (of_pod(), ObjectKind::ServiceAccount, &["pod-uid", "node-uid"], false),
            (of_pod(), ObjectKind::Pod, &["pod-uid"], true),
            (of_pod(), ObjectKind::Pod, &["sa-uid"], false),
            (of_pod(), ObjectKind::Node, &["node-uid"], false),
            (on_node(), ObjectKind::Node, &["node-uid"], true),
            (on_node(), ObjectKind::Node, &["other-uid"], false),
            (on_node(), ObjectKind::Pod, &["node-uid"], false),
        ] {
            assert_eq!(ends(identity, kind, uids), expected, "{kind:?} {uids:?}");
        }
    }
}
