//! Cache misses: coalesces concurrent lookups of one token into one verification that survives
//! cancellation.

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
    backend::{Backend, Verification, poll_verification},
    shared::{Follower, Leader, Shared},
};
use crate::{
    cache::{Digest, VerificationStart},
    clock::Clock,
    error::{VerifyError, VerifyErrorKind},
    single_flight::Joined,
    sync_point::sync_point,
    token::{BearerToken, PresentedToken},
    verdict::{Acceptance, Outcome, Verdict},
};

/// How much longer than a verification's own time limit its followers wait.
const WAIT_MARGIN: Duration = Duration::from_secs(1);

pub(crate) enum Lookup {
    Decided(Outcome),
    Waiting(Waiting),
}

/// Resolves with the outcome of a verification that runs in a task.
pub(crate) type Waiting = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// A verification in flight.
struct Flight {
    leader: Leader,
    digest: Digest,
    began: VerificationStart,
}

impl Shared {
    /// Decides about a token that has no fresh acceptance in the cache: at once if a cached
    /// decision, the pre-check or a synchronous verification is enough. Anything that waits runs in
    /// a task.
    pub(super) fn lookup(self: &Arc<Self>, token: BearerToken<'_>, digest: Digest) -> Lookup {
        let counters = &self.backend.counters;
        if let Some(reason) = self.cache.rejected(&digest) {
            counters.rejected_from_cache.increment();
            return Lookup::Decided(Ok(Verdict::Reject(reason)));
        }
        if let Some(identity) = self.cache.stale(&digest) {
            counters.served_stale.increment();
            self.refresh_ahead(token.into(), digest);
            return Lookup::Decided(Ok(Verdict::Accept(Acceptance::new(identity))));
        }
        let began = self.cache.now();
        if let Some(outcome) = self.verify_now(token) {
            return Lookup::Decided(self.cache_outcome(digest, outcome, |verdict| {
                self.cache.insert(digest, verdict, began)
            }));
        }
        if let Err(reason) = self.precheck.check(token, self.backend.clock.wall()) {
            counters.rejected_by_precheck.increment();
            return Lookup::Decided(Ok(Verdict::Reject(reason)));
        }
        sync_point();
        match self.flights.join(digest) {
            Joined::Follower(follower) => {
                counters.coalesced.increment();
                Lookup::Waiting(self.wait_for_flight(follower))
            }
            Joined::Leader(leader) => self.lead(leader, digest, token),
        }
    }

    /// Synchronous verification is not coalesced: there is no I/O to share.
    fn verify_now(&self, token: BearerToken<'_>) -> Option<Outcome> {
        // The verifier checks the claims itself, but does not know the issuers configured here.
        if self.precheck.has_issuers()
            && self.precheck.check(token, self.backend.clock.wall()).is_err()
        {
            return None;
        }
        self.backend.verify_now(token)
    }

    fn lead(self: &Arc<Self>, leader: Leader, digest: Digest, token: BearerToken<'_>) -> Lookup {
        sync_point();
        let began = self.cache.now();
        // Another flight may have completed between the cache lookup and becoming the leader.
        if let Some(verdict) = self.cache.get(&digest) {
            leader.complete(Ok(verdict.clone()));
            return Lookup::Decided(Ok(verdict));
        }
        sync_point();
        let (backend, token, is_known) =
            (Arc::clone(&self.backend), token.to_owned(), self.cache.contains(&digest));
        let mut verification: Verification =
            Box::pin(async move { backend.verify(&token, is_known).await });
        let flight = Flight { leader, digest, began };
        // Losing this wake-up is safe: the task polls again before it suspends.
        if let Poll::Ready(outcome) =
            poll_verification(&mut verification, &mut Context::from_waker(Waker::noop()))
        {
            return Lookup::Decided(self.complete(flight, outcome));
        }
        let Ok(runtime) = Handle::try_current() else {
            let error = VerifyError::new(
                VerifyErrorKind::Aborted,
                "a verification that waits needs a Tokio runtime",
            );
            return Lookup::Decided(self.complete(flight, Err(error)));
        };
        let follower = flight.leader.follower();
        self.spawn(&runtime, verification, flight);
        Lookup::Waiting(self.wait_for_flight(follower))
    }

    /// Verifies a cached token anew in the background, unless a verification of it is in flight or
    /// no permit is free.
    #[cold]
    pub(super) fn refresh_ahead(self: &Arc<Self>, token: PresentedToken<'_>, digest: Digest) {
        if !self.cache.claim_refresh(&digest) {
            return;
        }
        let (Ok(token), Ok(runtime)) = (token.parse(), Handle::try_current()) else { return };
        let Some(permit) = self.backend.limit.try_acquire_background() else { return };
        let Joined::Leader(leader) = self.flights.join(digest) else { return };
        self.backend.counters.refreshed_ahead.increment();
        let flight = Flight { leader, digest, began: self.cache.now() };
        let (backend, token) = (Arc::clone(&self.backend), token.to_owned());
        let verification = Box::pin(async move {
            let _permit = permit;
            match backend.verify_now(token.borrow()) {
                Some(outcome) => outcome,
                None => backend.verify_with_permit(&token).await,
            }
        });
        self.spawn(&runtime, verification, flight);
    }

    /// The task holds only a weak reference, so it ends with the last handle.
    fn spawn(self: &Arc<Self>, runtime: &Handle, verification: Verification, flight: Flight) {
        let (shared, backend) = (Arc::downgrade(self), Arc::clone(&self.backend));
        self.tasks.spawn(runtime, run(shared, backend, verification, flight).in_current_span());
    }

    /// Caches the outcome and completes the flight. Inserts before notifying followers, so that
    /// every request sees the entry or the flight.
    fn complete(&self, flight: Flight, outcome: Outcome) -> Outcome {
        let Flight { leader, digest, began } = flight;
        self.recent_failure.record(&outcome, self.backend.clock.monotonic());
        let outcome = self.cache_outcome(digest, outcome, |verdict| {
            leader.unless_detached(|| self.cache.insert(digest, verdict, began));
        });
        sync_point();
        leader.complete(outcome.clone());
        outcome
    }

    /// Counts the outcome and caches a decision by `insert`. On a failure, an earlier acceptance
    /// within its grace period takes the place of the error.
    fn cache_outcome(
        &self,
        digest: Digest,
        outcome: Outcome,
        insert: impl FnOnce(&Verdict),
    ) -> Outcome {
        self.backend.counters.count(&outcome);
        let error = match outcome {
            Ok(verdict) => {
                insert(&verdict);
                return Ok(verdict);
            }
            Err(error) => error,
        };
        let now = self.backend.clock.monotonic();
        let kept = if self.recent_failure.opens_grace(error.kind(), now) {
            self.cache.after_failure(&digest, error.retry_after())
        } else {
            self.cache.accepted(&digest).map(|hit| hit.identity)
        };
        let Some(identity) = kept else { return Err(error) };
        if self.cache.accepted(&digest).is_none() {
            self.backend.counters.served_stale.increment();
        }
        Ok(Verdict::Accept(Acceptance::new(identity)))
    }

    fn wait_for_flight(&self, follower: Follower) -> Waiting {
        let (clock, limit) =
            (self.backend.clock.clone(), self.backend.timeout.saturating_add(WAIT_MARGIN));
        Box::pin(wait_for_flight(follower, clock, limit))
    }
}

async fn run(
    shared: Weak<Shared>,
    backend: Arc<Backend>,
    verification: Verification,
    flight: Flight,
) {
    let outcome = backend.within_timeout(verification).await;
    if let Some(shared) = shared.upgrade() {
        // The request that leads waits as a follower too.
        drop(shared.complete(flight, outcome));
    }
}

async fn wait_for_flight(mut follower: Follower, clock: Clock, limit: Duration) -> Outcome {
    let aborted = || {
        VerifyError::new(VerifyErrorKind::Aborted, "the verification was ended with its runtime")
    };
    match clock.timeout(limit, follower.outcome()).await {
        Some(outcome) => outcome.unwrap_or_else(|| Err(aborted())),
        None => {
            follower.give_up();
            let message =
                "the verification did not end; is the runtime that it started on still driven?";
            Err(VerifyError::new(VerifyErrorKind::Timeout, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audience::Audiences, authenticator::Authenticator, verdict::RejectReason,
        verifier::Verifier,
    };

    struct NeverCalled;

    impl Verifier for NeverCalled {
        async fn verify(&self, _: BearerToken<'_>, _: &Audiences) -> Outcome {
            Err(VerifyError::new(VerifyErrorKind::Unavailable, "it was called"))
        }
    }

    #[test]
    fn a_verdict_cached_before_the_leader_looks_is_not_verified_again() {
        let authenticator = Authenticator::builder(NeverCalled).audience("api").build().unwrap();
        let shared = &authenticator.shared;
        let token = BearerToken::parse("e30.e30.AA").unwrap();
        let digest = shared.cache.digest(token.expose_secret().as_bytes());
        let Joined::Leader(leader) = shared.flights.join(digest) else {
            panic!("there is another leader")
        };
        let verdict = Verdict::Reject(RejectReason::Signature);
        shared.cache.insert(digest, &verdict, shared.cache.now());
        let Lookup::Decided(outcome) = shared.lead(leader, digest, token) else {
            panic!("the verdict is cached")
        };
        assert_eq!(outcome.unwrap(), verdict);
        assert!(matches!(shared.flights.join(digest), Joined::Leader(_)), "the key is free");
    }
}
