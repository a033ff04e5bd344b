//! A token that is not in the cache, or not for long: one verification, however many wait for it, whoever goes away.

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
    Authenticator, Shared,
    backend::{Backend, Verification, poll_without_panic},
};
use crate::{
    cache::{Digest, Follower, Joined, Leader, VerificationStart},
    clock::Clock,
    error::{VerifyError, VerifyErrorKind},
    identity::ServiceAccountIdentity,
    sync_point::sync_point,
    token::{BearerToken, PresentedToken},
    verdict::{Acceptance, Verdict},
};

/// A decision, or what kept us from it.
pub(crate) type Outcome = Result<Verdict, VerifyError>;

/// Resolves when the lookup, which runs on its own, has come to its end.
pub(crate) type Waiting = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// How long those who wait for a verification wait beyond its own time limit.
const PATIENCE: Duration = Duration::from_secs(1);

pub(crate) enum Lookup {
    Decided(Outcome),
    Waiting(Waiting),
}

/// A verification that must be ended by its outcome.
struct Flight {
    leader: Leader<Outcome>,
    digest: Digest,
    began: VerificationStart,
}

impl Authenticator {
    /// The identity that was accepted for the token before, if it is still in the cache. One that will not be for long is
    /// verified anew in the background, so that those who call regularly never wait.
    #[inline]
    pub(crate) fn cached(
        &self,
        token: PresentedToken<'_>,
        digest: &Digest,
    ) -> Option<ServiceAccountIdentity> {
        let hit = self.shared.cache.accepted(digest)?;
        if hit.is_due {
            self.shared.refresh_ahead(token, *digest);
        }
        Some(hit.identity)
    }

    /// Decides about a token that is not [`cached`](Self::cached): at once where that takes no waiting, which is from the
    /// cache, by looking, or by computing. Whatever must wait goes on in a task of its own.
    pub(crate) fn lookup(&self, token: BearerToken<'_>, digest: Digest) -> Lookup {
        let shared = &self.shared;
        let counters = &shared.backend.counters;
        if let Some(reason) = shared.cache.rejected(&digest) {
            counters.rejected_from_cache.increment();
            return Lookup::Decided(Ok(Verdict::Reject(reason)));
        }
        if let Some(identity) = shared.cache.stale(&digest) {
            counters.served_stale.increment();
            shared.refresh_ahead(token.into(), digest);
            return Lookup::Decided(Ok(Verdict::Accept(Acceptance::new(identity))));
        }
        let began = shared.cache.now();
        if let Some(outcome) = shared.compute(token) {
            return Lookup::Decided(shared.cache_outcome(digest, outcome, |verdict| {
                shared.cache.insert(digest, verdict, began)
            }));
        }
        if let Err(reason) = shared.precheck.check(token, shared.backend.clock.wall()) {
            counters.refused_unverified.increment();
            return Lookup::Decided(Ok(Verdict::Reject(reason)));
        }
        sync_point();
        match shared.flights.join(digest) {
            Joined::Follower(follower) => {
                counters.followed.increment();
                Lookup::Waiting(shared.wait_for_flight(follower))
            }
            Joined::Leader(leader) => shared.lead(leader, digest, token),
        }
    }
}

impl Shared {
    /// There is no flight of what is computed: nothing is to be saved for anybody else.
    fn compute(&self, token: BearerToken<'_>) -> Option<Outcome> {
        // Such a verifier looks at the claims by itself, but it does not know of the issuers that are configured here.
        if self.precheck.has_issuers()
            && self.precheck.check(token, self.backend.clock.wall()).is_err()
        {
            return None;
        }
        self.backend.compute(token)
    }

    fn lead(
        self: &Arc<Self>,
        leader: Leader<Outcome>,
        digest: Digest,
        token: BearerToken<'_>,
    ) -> Lookup {
        sync_point();
        let began = self.cache.now();
        // Another flight may have landed between our look into the cache and our becoming the leader.
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
        // Whoever wakes this waker wakes nobody, which is harmless: the task polls again before it waits.
        if let Poll::Ready(outcome) =
            poll_without_panic(&mut verification, &mut Context::from_waker(Waker::noop()))
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

    /// Verifies an accepted token anew, unless somebody does already or too much else is under way: nobody waits for it.
    #[cold]
    fn refresh_ahead(self: &Arc<Self>, token: PresentedToken<'_>, digest: Digest) {
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
            match backend.compute(token.borrow()) {
                Some(outcome) => outcome,
                None => backend.verify_in_turn(&token).await,
            }
        });
        self.spawn(&runtime, verification, flight);
    }

    /// The task keeps no handle alive: it ends with the last one.
    fn spawn(self: &Arc<Self>, runtime: &Handle, verification: Verification, flight: Flight) {
        let (shared, backend) = (Arc::downgrade(self), Arc::clone(&self.backend));
        self.tasks.spawn(runtime, finish(shared, backend, verification, flight).in_current_span());
    }

    /// Into the cache first, then to the followers: nobody can find neither the entry nor the flight.
    fn complete(&self, flight: Flight, outcome: Outcome) -> Outcome {
        let Flight { leader, digest, began } = flight;
        let outcome = self.cache_outcome(digest, outcome, |verdict| {
            leader.unless_detached(|| self.cache.insert(digest, verdict, began));
        });
        sync_point();
        leader.complete(outcome.clone());
        outcome
    }

    /// Keeps a decision. Where there is none, what was decided before may stand in for it.
    fn cache_outcome(
        &self,
        digest: Digest,
        outcome: Outcome,
        keep: impl FnOnce(&Verdict),
    ) -> Outcome {
        self.backend.counters.count(&outcome);
        let error = match outcome {
            Ok(verdict) => {
                keep(&verdict);
                return Ok(verdict);
            }
            Err(error) => error,
        };
        let Some(identity) = self.cache.after_failure(&digest, error.retry_after()) else {
            return Err(error);
        };
        if self.cache.accepted(&digest).is_none() {
            self.backend.counters.served_stale.increment();
        }
        Ok(Verdict::Accept(Acceptance::new(identity)))
    }

    fn wait_for_flight(&self, follower: Follower<Outcome>) -> Waiting {
        let (clock, limit) =
            (self.backend.clock.clone(), self.backend.timeout.saturating_add(PATIENCE));
        Box::pin(wait_for_flight(follower, clock, limit))
    }
}

async fn finish(
    shared: Weak<Shared>,
    backend: Arc<Backend>,
    verification: Verification,
    flight: Flight,
) {
    let outcome = backend.within_limit(verification).await;
    if let Some(shared) = shared.upgrade() {
        // The leader's own request waits like the others.
        drop(shared.complete(flight, outcome));
    }
}

async fn wait_for_flight(
    mut follower: Follower<Outcome>,
    clock: Clock,
    limit: Duration,
) -> Outcome {
    let aborted = || {
        VerifyError::new(VerifyErrorKind::Aborted, "the verification was ended with its runtime")
    };
    match clock.timeout(limit, follower.outcome()).await {
        Some(outcome) => outcome.unwrap_or_else(|| Err(aborted())),
        None => {
            follower.give_up();
            let message =
                "the verification came to no end; is the runtime that it began on still driven?";
            Err(VerifyError::new(VerifyErrorKind::Timeout, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{audience::Audiences, verdict::RejectReason, verifier::Verifier};

    struct NotToBeAsked;

    impl Verifier for NotToBeAsked {
        async fn verify(&self, _: BearerToken<'_>, _: &Audiences) -> Outcome {
            Err(VerifyError::new(VerifyErrorKind::Unavailable, "it was asked"))
        }
    }

    #[test]
    fn what_has_landed_between_the_look_and_the_lead_is_not_verified_again() {
        let authenticator = Authenticator::builder(NotToBeAsked).audience("api").build().unwrap();
        let shared = &authenticator.shared;
        let token = BearerToken::parse("e30.e30.AA").unwrap();
        let digest = shared.cache.digest(token.expose_secret().as_bytes());
        let Joined::Leader(leader) = shared.flights.join(digest) else {
            panic!("nobody else leads")
        };
        let verdict = Verdict::Reject(RejectReason::Signature);
        shared.cache.insert(digest, &verdict, shared.cache.now());
        let Lookup::Decided(outcome) = shared.lead(leader, digest, token) else {
            panic!("the cache knows")
        };
        assert_eq!(outcome.unwrap(), verdict);
        assert!(matches!(shared.flights.join(digest), Joined::Leader(_)), "the key is free");
    }
}
