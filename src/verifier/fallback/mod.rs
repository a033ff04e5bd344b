//! One verifier in place of another while that one cannot be reached.

mod circuit_breaker;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::circuit_breaker::{CircuitBreaker, Turn};
use super::verifier::Verifier;
use crate::{
    audience::Audiences,
    clock::Clock,
    error::{VerifyError, VerifyErrorKind},
    token::BearerToken,
    verdict::{RejectReason, Verdict},
};

/// A verifier with a fallback for its outages. See [`VerifierExt::or_when_unavailable`](crate::VerifierExt::or_when_unavailable).
///
/// Clones share what they know about the outage.
#[derive(Clone, Debug)]
pub struct Fallback<V, F> {
    verifier: V,
    fallback: F,
    outage: Arc<CircuitBreaker>,
    clock: Clock,
}

impl<V, F> Fallback<V, F> {
    pub(super) fn new(verifier: V, fallback: F) -> Self {
        Self { verifier, fallback, outage: Arc::default(), clock: Clock::system() }
    }

    /// Sets the clock of the pauses. Defaults to the system's.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }
}

impl<V: Verifier, F: Verifier> Fallback<V, F> {
    /// What counts of the fallback's answer.
    async fn fall_back(&self, token: BearerToken<'_>, audiences: &Audiences) -> Option<Verdict> {
        match self.fallback.verify(token, audiences).await {
            Ok(verdict) => counts(verdict),
            Err(error) => {
                tracing::debug!(%error, "the fallback cannot decide");
                None
            }
        }
    }
}

impl<V: Verifier, F: Verifier> Verifier for Fallback<V, F> {
    async fn verify(
        &self,
        token: BearerToken<'_>,
        audiences: &Audiences,
    ) -> Result<Verdict, VerifyError> {
        let turn = self.outage.turn(self.clock.monotonic());
        let is_paused = matches!(turn, Turn::Open(_));
        if is_paused && let Some(verdict) = self.fall_back(token, audiences).await {
            return Ok(verdict);
        }
        // During a pause too: what the fallback does not know must not be decided without the verifier.
        let _place = if is_paused { self.outage.place(self.clock.monotonic())? } else { None };
        match self.verifier.verify(token, audiences).await {
            Ok(verdict) => {
                if comes_from_the_backend(&verdict) {
                    turn.answered();
                }
                Ok(verdict)
            }
            Err(error) if is_outage(error.kind()) => {
                turn.failed(&error, self.clock.monotonic());
                let verdict = if is_paused { None } else { self.fall_back(token, audiences).await };
                verdict.ok_or(error)
            }
            Err(error) => {
                if is_an_answer(error.kind()) {
                    turn.answered();
                }
                Err(error)
            }
        }
    }

    /// During a pause what the fallback computes. Otherwise the verifier's refusals only: its acceptance is worth the detour,
    /// because it ends the outage.
    fn verify_now(&self, token: BearerToken<'_>, audiences: &Audiences) -> Option<Verdict> {
        if self.outage.is_paused(self.clock.monotonic()) {
            return self.fallback.verify_now(token, audiences).and_then(counts);
        }
        self.verifier
            .verify_now(token, audiences)
            .filter(|verdict| matches!(verdict, Verdict::Reject(_)))
    }
}

/// What a fallback's verdict is worth: an acceptance is marked; a refusal counts if it states a fact about the token. Whether a
/// key, an issuer or an algorithm is known depends on what the fallback was told.
fn counts(verdict: Verdict) -> Option<Verdict> {
    match verdict {
        Verdict::Accept(acceptance) => Some(Verdict::Accept(acceptance.by_fallback())),
        Verdict::Reject(
            RejectReason::UnknownKey | RejectReason::Issuer | RejectReason::Algorithm,
        ) => None,
        Verdict::Reject(
            RejectReason::Malformed
            | RejectReason::Signature
            | RejectReason::Audience
            | RejectReason::Expired
            | RejectReason::NotYetValid
            | RejectReason::NotAServiceAccount
            | RejectReason::Unauthenticated
            | RejectReason::Denied,
        ) => Some(verdict),
    }
}

/// The backend is not there. Everything else is somebody's mistake, which must not turn into working offline for good, or one
/// token's affair, which must not become everybody's.
fn is_outage(kind: VerifyErrorKind) -> bool {
    matches!(
        kind,
        VerifyErrorKind::Unavailable | VerifyErrorKind::Timeout | VerifyErrorKind::RateLimited
    )
}

/// The backend has answered, though to no use. What is inconclusive may be a screen's word, computed while the backend is down.
fn is_an_answer(kind: VerifyErrorKind) -> bool {
    matches!(
        kind,
        VerifyErrorKind::Unauthenticated
            | VerifyErrorKind::Forbidden
            | VerifyErrorKind::InvalidResponse
    )
}

/// Whether the verdict shows that the verifier's backend works again. Other refusals may have been computed, by a screen for
/// instance.
fn comes_from_the_backend(verdict: &Verdict) -> bool {
    matches!(
        verdict,
        Verdict::Accept(_) | Verdict::Reject(RejectReason::Unauthenticated | RejectReason::Denied)
    )
}
