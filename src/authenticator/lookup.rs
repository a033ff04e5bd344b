//! A token that is not in the cache: one verification, however many wait for it, whoever goes away.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tokio::runtime::Handle;
use tracing::Instrument;

use super::{Authenticator, Shared};
use crate::{
    cache::{Digest, Follower, Joined, Leader},
    error::{VerifyError, VerifyErrorKind},
    token::{BearerToken, OwnedBearerToken},
    unwind::{Panicked, call_caught, poll_caught},
    verdict::Verdict,
};

/// A decision, or what kept us from it.
pub(crate) type Outcome = Result<Verdict, VerifyError>;

/// Resolves when the lookup, which runs on its own, has come to its end.
pub(crate) type Waiting = Pin<Box<dyn Future<Output = Outcome> + Send>>;

type Verification = Pin<Box<dyn Future<Output = Outcome> + Send>>;

pub(crate) enum Lookup {
    Decided(Outcome),
    Waiting(Waiting),
}

impl Authenticator {
    /// Decides at once where that takes no waiting: from the cache, by looking, or by computing. Whatever must wait goes on in
    /// a task of its own.
    pub(crate) fn look_up(&self, token: BearerToken<'_>, digest: Digest) -> Lookup {
        let shared = &self.shared;
        if let Some(verdict) = shared.cache.get(&digest) {
            return Lookup::Decided(Ok(verdict));
        }
        if let Some(outcome) = shared.compute(token) {
            shared.remember(digest, &outcome);
            return Lookup::Decided(outcome);
        }
        if let Err(reason) = shared.precheck.check(token, shared.clock.wall()) {
            return Lookup::Decided(Ok(Verdict::Reject(reason)));
        }
        match shared.flights.join(digest) {
            Joined::Follower(follower) => Lookup::Waiting(Box::pin(landing(follower))),
            Joined::Leader(leader) => shared.lead(leader, digest, token),
        }
    }
}

impl Shared {
    /// What the verifier can say without waiting. It takes no place in the limit and no flight: a thread that computes is done
    /// before it can begin another, and there is nothing to be saved for anybody else.
    fn compute(&self, token: BearerToken<'_>) -> Option<Outcome> {
        // Such a verifier looks at the claims by itself, but it does not know of the issuers that are configured here.
        if self.precheck.has_issuers() && self.precheck.check(token, self.clock.wall()).is_err() {
            return None;
        }
        match call_caught(|| self.verifier.verify_now(token, &self.audiences)) {
            Ok(verdict) => verdict.map(Ok),
            Err(panicked) => Some(Err(aborted(&panicked))),
        }
    }

    fn lead(self: &Arc<Self>, leader: Leader<Outcome>, digest: Digest, token: BearerToken<'_>) -> Lookup {
        // Another flight may have landed between our look into the cache and our becoming the leader.
        if let Some(verdict) = self.cache.get(&digest) {
            leader.land(Ok(verdict.clone()));
            return Lookup::Decided(Ok(verdict));
        }
        let mut verification: Verification = Box::pin(Arc::clone(self).verify(token.to_owned()));
        // Whoever wakes this waker wakes nobody, which is harmless: the task polls again before it waits.
        if let Poll::Ready(outcome) = poll_without_panic(&mut verification, &mut Context::from_waker(Waker::noop())) {
            self.land(leader, digest, outcome.clone());
            return Lookup::Decided(outcome);
        }
        let Ok(runtime) = Handle::try_current() else {
            let error = VerifyError::new(VerifyErrorKind::Aborted, "a verification that waits needs a Tokio runtime");
            leader.land(Err(error.clone()));
            return Lookup::Decided(Err(error));
        };
        let follower = leader.follower();
        runtime.spawn(Arc::clone(self).finish(verification, leader, digest).in_current_span());
        Lookup::Waiting(Box::pin(landing(follower)))
    }

    async fn finish(self: Arc<Self>, mut verification: Verification, leader: Leader<Outcome>, digest: Digest) {
        let verified = poll_fn(|cx| poll_without_panic(&mut verification, cx));
        let outcome = self.clock.timeout(self.verification_timeout, verified).await.unwrap_or_else(|| {
            let message = format!("the verification did not end within {:?}", self.verification_timeout);
            Err(VerifyError::new(VerifyErrorKind::Timeout, message))
        });
        self.land(leader, digest, outcome);
    }

    /// Into the cache first, then to the followers: nobody can find neither the entry nor the flight.
    fn land(&self, leader: Leader<Outcome>, digest: Digest, outcome: Outcome) {
        self.remember(digest, &outcome);
        leader.land(outcome);
    }

    fn remember(&self, digest: Digest, outcome: &Outcome) {
        if let Ok(verdict) = outcome {
            self.cache.insert(digest, verdict);
        }
    }

    async fn verify(self: Arc<Self>, token: OwnedBearerToken) -> Outcome {
        let _permit = self.limit.acquire().await?;
        self.verifier.verify(token.borrow(), &self.audiences).await
    }
}

async fn landing(follower: Follower<Outcome>) -> Outcome {
    let aborted = || VerifyError::new(VerifyErrorKind::Aborted, "the verification was ended with its runtime");
    follower.outcome().await.unwrap_or_else(|| Err(aborted()))
}

/// Polls; a panic becomes an error, after which the future must not be polled again.
fn poll_without_panic(verification: &mut Verification, cx: &mut Context<'_>) -> Poll<Outcome> {
    poll_caught(verification.as_mut(), cx).map(|outcome| outcome.unwrap_or_else(|panicked| Err(aborted(&panicked))))
}

fn aborted(Panicked: &Panicked) -> VerifyError {
    tracing::error!("the verifier panicked; the panic hook has printed where");
    VerifyError::new(VerifyErrorKind::Aborted, "the verifier panicked")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{audience::Audiences, verdict::Reason, verifier::Verifier};

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
        let Joined::Leader(leader) = shared.flights.join(digest) else { panic!("nobody else leads") };
        let verdict = Verdict::Reject(Reason::Signature);
        shared.cache.insert(digest, &verdict);
        let Lookup::Decided(outcome) = shared.lead(leader, digest, token) else { panic!("the cache knows") };
        assert_eq!(outcome.unwrap(), verdict);
        assert!(matches!(shared.flights.join(digest), Joined::Leader(_)), "the key is free");
    }
}
