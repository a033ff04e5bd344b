//! The verifier behind its limits: what a task of a verification needs, and what outlives no handle but the task's own.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use super::{limit::Limit, lookup::Outcome, metrics::Counters};
use crate::{
    audience::Audiences,
    catch_panic::{Panicked, call_caught, poll_caught},
    clock::Clock,
    error::{VerifyError, VerifyErrorKind},
    token::{BearerToken, OwnedBearerToken},
    verifier::SharedVerifier,
};

pub(super) type Verification = Pin<Box<dyn Future<Output = Outcome> + Send>>;

pub(super) struct Backend {
    pub(super) verifier: SharedVerifier,
    pub(super) audiences: Audiences,
    pub(super) limit: Limit,
    pub(super) timeout: Duration,
    pub(super) counters: Counters,
    pub(super) clock: Clock,
}

impl Backend {
    /// What the verifier can say without waiting. It takes no place in the limit: a thread that computes is done before it can
    /// begin another.
    pub(super) fn compute(&self, token: BearerToken<'_>) -> Option<Outcome> {
        match call_caught(|| self.verifier.verify_now(token, &self.audiences)) {
            Ok(verdict) => verdict.map(Ok),
            Err(panicked) => Some(Err(aborted(&panicked))),
        }
    }

    /// What the verifier says, once it is this one's turn.
    pub(super) async fn verify(&self, token: &OwnedBearerToken, is_known: bool) -> Outcome {
        let _permit = self
            .limit
            .acquire(is_known)
            .await
            .inspect_err(|_| self.counters.saturated.increment())?;
        self.verify_in_turn(token).await
    }

    pub(super) async fn verify_in_turn(&self, token: &OwnedBearerToken) -> Outcome {
        self.verifier.verify(token.borrow(), &self.audiences).await
    }

    /// The outcome of `verification` within the time limit.
    pub(super) async fn within_limit(&self, mut verification: Verification) -> Outcome {
        let verified = poll_fn(|cx| poll_without_panic(&mut verification, cx));
        self.clock.timeout(self.timeout, verified).await.unwrap_or_else(|| {
            let message = format!("the verification did not end within {:?}", self.timeout);
            Err(VerifyError::new(VerifyErrorKind::Timeout, message))
        })
    }
}

/// Polls; a panic becomes an error, after which the future must not be polled again.
pub(super) fn poll_without_panic(
    verification: &mut Verification,
    cx: &mut Context<'_>,
) -> Poll<Outcome> {
    poll_caught(verification.as_mut(), cx)
        .map(|outcome| outcome.unwrap_or_else(|panicked| Err(aborted(&panicked))))
}

fn aborted(Panicked: &Panicked) -> VerifyError {
    tracing::error!("the verifier panicked; the panic hook has printed where");
    VerifyError::new(VerifyErrorKind::Aborted, "the verifier panicked")
}
