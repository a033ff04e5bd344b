//! The read-through cache: coalesces concurrent misses of one key into one decision that survives
//! cancellation, and decides anew about entries in use before they end.

#[cfg(test)]
mod tests;

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::runtime::Handle;
use tracing::Instrument;

use super::{
    digest::{Digest, DigestWriter},
    entry::Hit,
    flight::{Flight, Flights, Follower, Leader, wait_for_flight},
    invalidations::{Invalidation, VerificationStart},
    limit::Limit,
    load::{Limited, Load},
    metrics::CacheMetrics,
    recent_failure::RecentFailure,
    started_loads::{Loading, StartedLoad},
    verdict_cache::{Remaining, VerdictCache},
};
#[cfg(feature = "watch")]
use crate::identity::ServiceAccountIdentity;
use crate::{
    background_task::Tasks,
    catch_panic::call_caught,
    clock::Clock,
    error::{VerifyError, VerifyErrorKind},
    single_flight::Joined,
    sync_point::sync_point,
    telemetry::{self, Gauges, Measure, Stage},
    verdict::{Acceptance, Outcome, RejectReason, Verdict},
};

const MEASURES: [Measure; 4] =
    [Measure::AcceptedEntries, Measure::RejectedEntries, Measure::InFlight, Measure::Waiting];

pub(crate) struct ReadThroughCache<L> {
    verdicts: VerdictCache,
    flights: Arc<Flights>,
    tasks: Tasks,
    recent_failure: RecentFailure,
    limited: Arc<Limited<L>>,
    /// Of decisions about tokens; there are none of other decisions.
    gauges: Option<Gauges<4>>,
}

pub(crate) enum Lookup {
    Decided(Outcome),
    Waiting(Waiting),
}

/// Resolves with the outcome of a load that runs in a task.
pub(crate) type Waiting = Pin<Box<dyn Future<Output = Outcome> + Send>>;

impl<L: Load> ReadThroughCache<L> {
    /// `timeout` limits one load, including its wait for a permit of `limit`.
    pub(crate) fn new(
        verdicts: VerdictCache,
        loader: L,
        limit: Limit,
        timeout: Duration,
        clock: Clock,
    ) -> Self {
        Self {
            verdicts,
            flights: Flights::new(),
            tasks: Tasks::default(),
            recent_failure: RecentFailure::default(),
            gauges: (L::STAGE == Stage::Authentication).then(|| Gauges::new(MEASURES)),
            limited: Arc::new(Limited::new(loader, limit, timeout, clock)),
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
        let (clock, remaining) = (self.clock().clone(), self.verdicts.remaining().cloned());
        let limit = self.limited.longest_wait();
        Box::pin(async move {
            let outcome = wait_for_flight(follower, &clock, limit).await;
            // An object may have gone since the flight began, and before this follower joined it.
            unless_ended(outcome, remaining.as_ref(), &clock)
        })
    }

    /// Drops acceptances that ended. See [`VerdictCache::drop_ended`].
    #[cfg(feature = "watch")]
    pub(super) fn drop_ended(&self, has_ended: impl Fn(&ServiceAccountIdentity) -> bool) {
        self.verdicts.drop_ended(has_ended);
    }

    /// Drops decisions, and those of loads that have begun but not ended. Flights go on: whom one is
    /// about is not known before its outcome.
    #[cfg(feature = "watch")]
    pub(super) fn invalidate_without_detaching(&self, invalidation: &Invalidation) {
        self.verdicts.invalidate(invalidation);
        self.publish_gauges();
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
