//! The read-through cache: coalesces concurrent misses of one key into one decision that survives
//! cancellation, and decides anew about entries in use before they end.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::runtime::Handle;
use tracing::{Instrument, Span};

use super::{
    digest::{Digest, DigestHasher, DigestWriter},
    entry::Hit,
    invalidations::{Invalidation, VerificationStart},
    limit::Limit,
    metrics::{CacheMetrics, Counters},
    recent_failure::RecentFailure,
    started_loads::{Loading, StartedLoad, StartedLoads},
    verdict_cache::{Remaining, VerdictCache},
};
use crate::{
    background_task::Tasks,
    catch_panic::{Panicked, call_caught, poll_caught},
    clock::Clock,
    error::{VerifyError, VerifyErrorKind},
    single_flight::{self, Joined},
    sync_point::sync_point,
    telemetry::{self, Gauges, Measure, Stage},
    verdict::{Acceptance, Outcome, RejectReason, Verdict},
    warn_limit::WarnLimit,
};

/// How much longer than a decision's own time limit its followers wait.
const WAIT_MARGIN: Duration = Duration::from_secs(1);

const MEASURES: [Measure; 4] =
    [Measure::AcceptedEntries, Measure::RejectedEntries, Measure::InFlight, Measure::Waiting];

/// Makes the decisions that are cached.
pub(crate) trait Load: Send + Sync + 'static {
    /// What a decision is about. Owned, because the task that decides outlives the request.
    type Input: Send + Sync + 'static;

    /// The name of what decides, for messages.
    const NAME: &'static str;
    /// What is decided, for metrics.
    const STAGE: Stage;

    /// Returns the name of an outcome, for metrics. Defaults to the names of authentication.
    fn result(outcome: &Outcome) -> &'static str {
        match outcome {
            Ok(Verdict::Accept(_)) => "accepted",
            Ok(Verdict::Reject(reason)) => reason.as_str(),
            Err(error) => error.kind().as_str(),
        }
    }

    /// Returns the uid of the caller whose share of the limit a load uses. Defaults to none: the
    /// load is about nobody who is known yet.
    fn caller(_input: &Self::Input) -> Option<&str> {
        None
    }

    fn load(&self, input: &Self::Input) -> impl Future<Output = Outcome> + Send;

    /// Decides without I/O, or returns `None`.
    fn load_now(&self, input: &Self::Input) -> Option<Outcome>;

    /// Decides without a permit, or returns `None`.
    fn load_when_saturated(
        &self,
        input: &Self::Input,
    ) -> impl Future<Output = Option<Outcome>> + Send {
        async { self.load_now(input) }
    }
}

pub(crate) struct ReadThroughCache<L> {
    verdicts: VerdictCache,
    flights: Arc<Flights>,
    tasks: Tasks,
    recent_failure: RecentFailure,
    limited: Arc<Limited<L>>,
    /// Of decisions about tokens; there are none of other decisions.
    gauges: Option<Gauges<4>>,
}

/// The loader with its limits. Tasks hold this instead of the cache, so they do not keep it alive.
struct Limited<L> {
    loader: L,
    limit: Limit,
    started: StartedLoads,
    timeout: Duration,
    counters: Counters,
    clock: Clock,
    /// Limits the log lines of panics, which requests may cause.
    warn_limit: WarnLimit,
}

pub(crate) enum Lookup {
    Decided(Outcome),
    Waiting(Waiting),
}

/// Resolves with the outcome of a load that runs in a task.
pub(crate) type Waiting = Pin<Box<dyn Future<Output = Outcome> + Send>>;

type Flights = single_flight::Flights<Digest, Outcome, DigestHasher>;
type Leader = single_flight::Leader<Digest, Outcome, DigestHasher>;
type Follower = single_flight::Follower<Digest, Outcome, DigestHasher>;

/// A load in flight.
struct Flight {
    leader: Leader,
    digest: Digest,
    began: VerificationStart,
    span: Span,
}

impl<L: Load> ReadThroughCache<L> {
    /// `timeout` limits one load, including its wait for a permit of `limit`.
    pub(crate) fn new(
        verdicts: VerdictCache,
        loader: L,
        limit: Limit,
        timeout: Duration,
        clock: Clock,
    ) -> Self {
        let counters = Counters::default();
        Self {
            verdicts,
            flights: Flights::new(),
            tasks: Tasks::default(),
            recent_failure: RecentFailure::default(),
            gauges: (L::STAGE == Stage::Authentication).then(|| Gauges::new(MEASURES)),
            limited: Arc::new(Limited {
                loader,
                limit,
                started: StartedLoads::default(),
                timeout,
                counters,
                clock,
                warn_limit: WarnLimit::default(),
            }),
        }
    }

    pub(crate) fn loader(&self) -> &L {
        &self.limited.loader
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.limited.clock
    }

    pub(crate) fn metrics(&self) -> CacheMetrics {
        let Limited { limit, counters, .. } = &*self.limited;
        let (accepted_entries, rejected_entries) = self.verdicts.len();
        CacheMetrics {
            in_flight: limit.in_flight() as u64,
            waiting: limit.waiting() as u64,
            accepted_entries,
            rejected_entries,
            ..counters.snapshot()
        }
    }

    #[inline]
    pub(crate) fn digest(&self, key: &[u8]) -> Digest {
        self.verdicts.digest(key)
    }

    pub(crate) fn digest_of(&self, write: impl FnOnce(&mut DigestWriter)) -> Digest {
        self.verdicts.digest_of(write)
    }

    /// Returns a fresh acceptance. If most of its lifetime has passed, decides anew
    /// in the background, so that regular callers never wait. `input` is `None` if that turns out
    /// to be impossible.
    #[inline]
    pub(crate) fn accepted(
        self: &Arc<Self>,
        digest: &Digest,
        input: impl FnOnce() -> Option<L::Input>,
    ) -> Option<Hit> {
        let hit = self.verdicts.accepted(digest)?;
        if hit.is_due {
            self.refresh_ahead(*digest, input);
        }
        Some(hit)
    }

    /// Returns the reason of a cached rejection.
    pub(crate) fn rejected(&self, digest: &Digest) -> Option<RejectReason> {
        let reason = self.verdicts.rejected(digest)?;
        self.limited.counters.rejected_from_cache.increment();
        Some(reason)
    }

    /// Returns what is known although no acceptance is fresh: a cached rejection, or, while the
    /// loader fails, an acceptance within its grace period.
    pub(crate) fn rejected_or_stale(
        self: &Arc<Self>,
        digest: &Digest,
        input: impl FnOnce() -> Option<L::Input>,
    ) -> Option<Verdict> {
        if let Some(reason) = self.rejected(digest) {
            return Some(Verdict::Reject(reason));
        }
        let identity = self.verdicts.stale(digest)?;
        self.limited.counters.served_stale.increment();
        self.refresh_ahead(*digest, input);
        Some(Verdict::Accept(Acceptance::new(identity)))
    }

    /// Caches what `decide` returns without I/O. This is not coalesced: there is no I/O to share.
    pub(crate) fn decide_now(
        &self,
        digest: Digest,
        decide: impl FnOnce(&L) -> Option<Outcome>,
    ) -> Option<Outcome> {
        let began = self.verdicts.now();
        let outcome = match call_caught(|| decide(&self.limited.loader)) {
            Ok(outcome) => outcome?,
            Err(panicked) => Err(self.limited.aborted(&panicked)),
        };
        let outcome = self.cache_outcome(digest, outcome, began, |verdict| {
            self.verdicts.insert(digest, verdict, began)
        });
        self.publish_gauges();
        Some(outcome)
    }

    /// Loads a decision that is not cached, or follows the load in flight. What waits runs in a
    /// task.
    pub(crate) fn load(
        self: &Arc<Self>,
        digest: Digest,
        input: impl FnOnce() -> L::Input,
    ) -> Lookup {
        if let Err(error) = self.ensure_open() {
            return Lookup::Decided(Err(error));
        }
        sync_point();
        match self.flights.join(digest) {
            Joined::Follower(follower) => {
                self.limited.counters.coalesced.increment();
                Lookup::Waiting(self.wait_for_flight(follower))
            }
            Joined::Leader(leader) => self.lead(leader, digest, input),
        }
    }

    fn lead(
        self: &Arc<Self>,
        leader: Leader,
        digest: Digest,
        input: impl FnOnce() -> L::Input,
    ) -> Lookup {
        sync_point();
        let began = self.verdicts.now();
        // Another flight may have completed between the cache lookup and becoming the leader.
        if let Some(verdict) = self.verdicts.get(&digest) {
            leader.complete(Ok(verdict.clone()));
            return Lookup::Decided(Ok(verdict));
        }
        sync_point();
        self.limited.drop_overdue();
        let (limited, input, is_known) =
            (Arc::clone(&self.limited), input(), self.verdicts.contains(&digest));
        let span = telemetry::decision_span(L::STAGE);
        let loading = async move { limited.load_when_permitted(&input, is_known).await };
        let mut loading: Loading = Box::pin(loading.instrument(span.clone()));
        let flight = Flight { leader, digest, began, span };
        // Losing this wake-up is safe: the task polls again before it suspends.
        if let Poll::Ready(outcome) =
            self.limited.poll(&mut loading, &mut Context::from_waker(Waker::noop()))
        {
            return Lookup::Decided(self.complete(flight, outcome));
        }
        let Ok(runtime) = Handle::try_current() else {
            let error = VerifyError::new(
                VerifyErrorKind::Aborted,
                "a decision that waits needs a Tokio runtime",
            );
            return Lookup::Decided(self.complete(flight, Err(error)));
        };
        let follower = flight.leader.follower();
        self.spawn(&runtime, loading, flight);
        self.publish_gauges();
        Lookup::Waiting(self.wait_for_flight(follower))
    }

    /// Decides anew about a cached entry in the background, unless a load of it is in flight or no
    /// permit is free.
    #[cold]
    fn refresh_ahead(self: &Arc<Self>, digest: Digest, input: impl FnOnce() -> Option<L::Input>) {
        if self.tasks.is_closed() || !self.verdicts.claim_refresh(&digest) {
            return;
        }
        let (Some(input), Ok(runtime)) = (input(), Handle::try_current()) else { return };
        self.limited.drop_overdue();
        let Some(permit) = self.limited.limit.try_acquire_background() else { return };
        let Joined::Leader(leader) = self.flights.join(digest) else { return };
        self.limited.counters.refreshed_ahead.increment();
        let span = telemetry::decision_span(L::STAGE);
        let flight = Flight { leader, digest, began: self.verdicts.now(), span: span.clone() };
        let limited = Arc::clone(&self.limited);
        let loading = async move {
            let _permit = permit;
            match limited.loader.load_now(&input) {
                Some(outcome) => outcome,
                None => limited.loader.load(&input).await,
            }
        };
        self.spawn(&runtime, Box::pin(loading.instrument(span)), flight);
    }

    /// The task holds only a weak reference, so it ends with the last handle.
    fn spawn(self: &Arc<Self>, runtime: &Handle, loading: Loading, flight: Flight) {
        let (cache, limited) = (Arc::downgrade(self), Arc::clone(&self.limited));
        let load = limited.start(loading);
        self.tasks.spawn(runtime, run(cache, limited, load, flight).in_current_span());
    }

    /// Caches the outcome and completes the flight. Inserts before notifying followers, so that
    /// every request sees the entry or the flight.
    fn complete(&self, flight: Flight, outcome: Outcome) -> Outcome {
        let Flight { leader, digest, began, span } = flight;
        telemetry::record_result(&span, L::result(&outcome));
        self.recent_failure.record(&outcome, self.clock().monotonic());
        let outcome = self.cache_outcome(digest, outcome, began, |verdict| {
            leader.unless_detached(|| self.verdicts.insert(digest, verdict, began));
        });
        self.publish_gauges();
        sync_point();
        leader.complete(outcome.clone());
        outcome
    }

    fn publish_gauges(&self) {
        let Some(gauges) = &self.gauges else { return };
        gauges.publish(|| {
            let Limited { limit, .. } = &*self.limited;
            let (accepted, rejected) = self.verdicts.len();
            [accepted, rejected, limit.in_flight() as u64, limit.waiting() as u64]
        });
    }

    /// Counts the outcome and caches a decision by `insert`. On a failure, an earlier acceptance
    /// within its grace period takes the place of the error.
    fn cache_outcome(
        &self,
        digest: Digest,
        outcome: Outcome,
        began: VerificationStart,
        insert: impl FnOnce(&Verdict),
    ) -> Outcome {
        let counters = &self.limited.counters;
        let outcome = unless_ended(outcome, self.verdicts.remaining(), self.clock());
        counters.count(&outcome);
        telemetry::decided(L::STAGE, L::result(&outcome), began.at, self.clock());
        sync_point();
        let error = match outcome {
            Ok(verdict) => {
                insert(&verdict);
                return Ok(verdict);
            }
            Err(error) => error,
        };
        let now = self.clock().monotonic();
        let kept = if self.recent_failure.opens_grace(error.kind(), now) {
            self.verdicts.after_failure(&digest, error.retry_after())
        } else {
            self.verdicts.accepted(&digest).map(|hit| hit.identity)
        };
        let Some(identity) = kept else { return Err(error) };
        if self.verdicts.accepted(&digest).is_none() {
            counters.served_stale.increment();
        }
        Ok(Verdict::Accept(Acceptance::new(identity)))
    }

    /// Makes no decision from now on, waits for at most `limit` for those that are being made, and
    /// aborts the rest.
    pub(crate) async fn shut_down(&self, limit: Duration) {
        let aborted = self.tasks.shut_down(limit, self.clock()).await;
        if aborted > 0 {
            tracing::warn!(aborted, ?limit, "shut down before {} had decided", L::NAME);
        }
    }

    /// Returns an error after the [shutdown](Self::shut_down).
    pub(crate) fn ensure_open(&self) -> Result<(), VerifyError> {
        if !self.tasks.is_closed() {
            return Ok(());
        }
        Err(VerifyError::new(VerifyErrorKind::Aborted, format!("{} is shut down", L::NAME)))
    }

    fn wait_for_flight(&self, follower: Follower) -> Waiting {
        let Limited { clock, timeout, .. } = &*self.limited;
        let (clock, remaining) = (clock.clone(), self.verdicts.remaining().cloned());
        let limit = timeout.saturating_add(WAIT_MARGIN);
        Box::pin(async move {
            let outcome = wait_for_flight(follower, &clock, limit).await;
            // An object may have gone since the flight began, and before this follower joined it.
            unless_ended(outcome, remaining.as_ref(), &clock)
        })
    }

    /// Drops acceptances that ended. See [`VerdictCache::drop_ended`].
    #[cfg(feature = "watch")]
    pub(super) fn drop_ended(&self, ended: &Invalidation) {
        self.verdicts.drop_ended(ended);
    }

    /// Drops decisions, and those of loads that have begun but not ended. Detaches flights that the
    /// invalidation may concern: whom one is about is not known before its outcome.
    pub(crate) fn invalidate(&self, invalidation: &Invalidation) {
        self.verdicts.invalidate(invalidation);
        if let Invalidation::Key(digest) = invalidation {
            self.flights.detach(digest);
        } else {
            sync_point();
            self.flights.detach_all();
        }
        self.publish_gauges();
    }
}

impl<L: Load> Limited<L> {
    /// Waits for a permit and loads.
    async fn load_when_permitted(&self, input: &L::Input, is_known: bool) -> Outcome {
        match self.limit.acquire(is_known, L::caller(input)).await {
            Ok(_permit) => self.loader.load(input).await,
            Err(saturated) => self.loader.load_when_saturated(input).await.unwrap_or_else(|| {
                self.counters.saturated.increment();
                Err(saturated)
            }),
        }
    }

    /// Returns `loading` for a task, which has to end it within the time limit.
    fn start(&self, loading: Loading) -> Arc<StartedLoad> {
        let limit = self.timeout.saturating_add(WAIT_MARGIN);
        let now = self.clock.monotonic();
        // A time limit beyond what the clock can tell is none.
        self.started.add(loading, now.checked_add(limit))
    }

    /// Drops what the tasks of a runtime that is not driven any more hold, permits above all.
    fn drop_overdue(&self) {
        self.started.drop_overdue(self.clock.monotonic());
    }

    /// Drives `load` to its outcome, within the time limit.
    async fn within_timeout(&self, load: Arc<StartedLoad>) -> Outcome {
        let loaded = poll_fn(|cx| load.poll(|loading| self.poll(loading, cx)));
        self.clock.timeout(self.timeout, loaded).await.flatten().unwrap_or_else(|| {
            let message = format!("{} did not decide within {:?}", L::NAME, self.timeout);
            Err(VerifyError::new(VerifyErrorKind::Timeout, message))
        })
    }

    /// Polls once. A panic becomes an error, after which the future must not be polled again.
    fn poll(&self, loading: &mut Loading, cx: &mut Context<'_>) -> Poll<Outcome> {
        poll_caught(loading.as_mut(), cx)
            .map(|outcome| outcome.unwrap_or_else(|panicked| Err(self.aborted(&panicked))))
    }

    fn aborted(&self, Panicked: &Panicked) -> VerifyError {
        if let Some(suppressed) = self.warn_limit.admit("panic", self.clock.monotonic()) {
            tracing::error!(suppressed, "{} panicked; the panic hook has printed where", L::NAME);
        }
        VerifyError::new(VerifyErrorKind::Aborted, format!("{} panicked", L::NAME))
    }
}

async fn run<L: Load>(
    cache: Weak<ReadThroughCache<L>>,
    limited: Arc<Limited<L>>,
    load: Arc<StartedLoad>,
    flight: Flight,
) {
    let outcome = limited.within_timeout(load).await;
    if let Some(cache) = cache.upgrade() {
        // The request that leads waits as a follower too.
        drop(cache.complete(flight, outcome));
    }
}

/// Returns the rejection of an acceptance whose objects are gone.
fn unless_ended(outcome: Outcome, remaining: Option<&Remaining>, clock: &Clock) -> Outcome {
    match (&outcome, remaining) {
        (Ok(Verdict::Accept(accepted)), Some(remaining))
            if remaining(accepted.identity(), clock.wall()).is_none() =>
        {
            Ok(Verdict::Reject(RejectReason::Deleted))
        }
        _ => outcome,
    }
}

async fn wait_for_flight(mut follower: Follower, clock: &Clock, limit: Duration) -> Outcome {
    let aborted =
        || VerifyError::new(VerifyErrorKind::Aborted, "the decision was ended with its runtime");
    match clock.timeout(limit, follower.outcome()).await {
        Some(outcome) => outcome.unwrap_or_else(|| Err(aborted())),
        None => {
            follower.give_up();
            let message =
                "the decision did not end; is the runtime that it started on still driven?";
            Err(VerifyError::new(VerifyErrorKind::Timeout, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Capacities, Lifetimes};

    struct NeverCalled;

    impl Load for NeverCalled {
        type Input = ();
        const NAME: &'static str = "the loader";
        const STAGE: Stage = Stage::Authentication;

        async fn load(&self, (): &()) -> Outcome {
            Err(VerifyError::new(VerifyErrorKind::Unavailable, "it was called"))
        }

        fn load_now(&self, (): &()) -> Option<Outcome> {
            None
        }
    }

    #[test]
    fn a_verdict_cached_before_the_leader_looks_is_not_loaded_again() {
        const MINUTE: Duration = Duration::from_secs(60);
        let lifetimes = Lifetimes { accepted: MINUTE, rejected: MINUTE, stale: Duration::ZERO };
        let clock = Clock::system();
        let capacities = Capacities { accepted: 9, rejected: 9 };
        let verdicts = VerdictCache::new(capacities, lifetimes, clock.clone()).unwrap();
        let limit = Limit::new(4, MINUTE, clock.clone());
        let cache = Arc::new(ReadThroughCache::new(verdicts, NeverCalled, limit, MINUTE, clock));
        let digest = cache.digest(b"key");
        let Joined::Leader(leader) = cache.flights.join(digest) else {
            panic!("there is another leader")
        };
        let verdict = Verdict::Reject(RejectReason::Signature);
        cache.verdicts.insert(digest, &verdict, cache.verdicts.now());
        let Lookup::Decided(outcome) = cache.lead(leader, digest, || ()) else {
            panic!("the verdict is cached")
        };
        assert_eq!(outcome.unwrap(), verdict);
        assert!(matches!(cache.flights.join(digest), Joined::Leader(_)), "the key is free");
    }
}
