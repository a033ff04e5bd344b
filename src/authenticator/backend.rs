//! The verifier with its limits. Tasks hold this instead of an `Authenticator`, so they do not keep
//! it alive.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use super::{limit::Limit, metrics::Counters};
use crate::{
    audience::Audiences,
    catch_panic::{Panicked, call_caught, poll_caught},
    clock::Clock,
    error::{VerifyError, VerifyErrorKind},
    identity::AuthenticatorId,
    token::{BearerToken, OwnedBearerToken},
    verdict::Outcome,
    verifier::{DynVerifier, Verifier},
};

pub(super) type Verification = Pin<Box<dyn Future<Output = Outcome> + Send>>;

pub(super) struct Backend {
    pub(super) verifier: DynVerifier,
    pub(super) audiences: Audiences,
    pub(super) limit: Limit,
    pub(super) timeout: Duration,
    pub(super) counters: Counters,
    pub(super) clock: Clock,
    pub(super) id: AuthenticatorId,
}

impl Backend {
    /// Verifies synchronously if no I/O is needed. Takes no permit: a thread computes one
    /// verification at a time.
    pub(super) fn verify_now(&self, token: BearerToken<'_>) -> Option<Outcome> {
        match call_caught(|| self.verifier.verify_now(token, &self.audiences)) {
            Ok(verdict) => verdict.map(|verdict| Ok(verdict.accepted_by(self.id))),
            Err(panicked) => Some(Err(aborted(&panicked))),
        }
    }

    /// Waits for a permit and verifies.
    pub(super) async fn verify(&self, token: &OwnedBearerToken, is_known: bool) -> Outcome {
        let _permit = self
            .limit
            .acquire(is_known)
            .await
            .inspect_err(|_| self.counters.saturated.increment())?;
        self.verify_with_permit(token).await
    }

    /// Verifies; the caller holds a permit.
    pub(super) async fn verify_with_permit(&self, token: &OwnedBearerToken) -> Outcome {
        let verdict = self.verifier.verify(token.borrow(), &self.audiences).await?;
        Ok(verdict.accepted_by(self.id))
    }

    /// Drives `verification` to its outcome, within the time limit.
    pub(super) async fn within_timeout(&self, mut verification: Verification) -> Outcome {
        let verified = poll_fn(|cx| poll_verification(&mut verification, cx));
        self.clock.timeout(self.timeout, verified).await.unwrap_or_else(|| {
            let message = format!("the verification did not end within {:?}", self.timeout);
            Err(VerifyError::new(VerifyErrorKind::Timeout, message))
        })
    }
}

/// Polls once. A panic becomes an error, after which the future must not be polled again.
pub(super) fn poll_verification(
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
