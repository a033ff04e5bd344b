//! A verifier with another one in its place while it is unavailable.

mod circuit_breaker;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::circuit_breaker::{CircuitBreaker, CircuitState};
use super::verifier::Verifier;
use crate::{
    audience::Audiences,
    clock::Clock,
    error::{VerifyError, VerifyErrorKind},
    token::BearerToken,
    verdict::{RejectReason, Verdict},
};

/// A verifier with a fallback for its outages. See
/// [`VerifierExt::or_when_unavailable`](crate::VerifierExt::or_when_unavailable).
///
/// Clones share one circuit breaker.
#[derive(Clone, Debug)]
pub struct Fallback<V, F> {
    verifier: V,
    fallback: F,
    breaker: Arc<CircuitBreaker>,
    clock: Clock,
}

impl<V, F> Fallback<V, F> {
    pub(super) fn new(verifier: V, fallback: F) -> Self {
        Self { verifier, fallback, breaker: Arc::default(), clock: Clock::system() }
    }

    /// Sets the clock of the circuit breaker. Defaults to the system's.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }
}

impl<V: Verifier, F: Verifier> Fallback<V, F> {
    /// Returns the fallback's verdict if it counts. That a token is no JWT is no fact about it if
    /// only the verifier takes opaque tokens.
    fn counting(&self, verdict: Verdict) -> Option<Verdict> {
        let is_opaque = verdict == Verdict::Reject(RejectReason::Malformed)
            && self.verifier.accepts_opaque_tokens()
            && !self.fallback.accepts_opaque_tokens();
        counts(verdict).filter(|_| !is_opaque)
    }

    /// Returns the fallback's verdict, if it counts.
    async fn fall_back(&self, token: BearerToken<'_>, audiences: &Audiences) -> Option<Verdict> {
        match self.fallback.verify(token, audiences).await {
            Ok(verdict) => self.counting(verdict),
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
        let state = self.breaker.state(self.clock.monotonic());
        let is_open = matches!(state, CircuitState::Open(_));
        if is_open && let Some(verdict) = self.fall_back(token, audiences).await {
            return Ok(verdict);
        }
        // The verifier decides what the fallback cannot, also while the breaker is open.
        let _permit =
            if is_open { self.breaker.try_acquire(self.clock.monotonic())? } else { None };
        match self.verifier.verify(token, audiences).await {
            Ok(verdict) => {
                if comes_from_the_backend(&verdict) {
                    state.record_success();
                }
                Ok(verdict)
            }
            Err(error) if is_outage(error.kind()) => {
                state.record_failure(&error, self.clock.monotonic());
                let verdict = if is_open { None } else { self.fall_back(token, audiences).await };
                verdict.ok_or(error)
            }
            Err(error) => {
                if is_an_answer(error.kind()) {
                    state.record_success();
                }
                Err(error)
            }
        }
    }

    /// Returns what the fallback computes while the breaker is open. Otherwise returns the
    /// verifier's rejections only: `verify` must see an acceptance, because it closes the
    /// breaker.
    fn verify_now(&self, token: BearerToken<'_>, audiences: &Audiences) -> Option<Verdict> {
        if self.breaker.is_open(self.clock.monotonic()) {
            let verdict = self.fallback.verify_now(token, audiences)?;
            return self.counting(verdict);
        }
        self.verifier
            .verify_now(token, audiences)
            .filter(|verdict| matches!(verdict, Verdict::Reject(_)))
    }

    fn accepts_opaque_tokens(&self) -> bool {
        self.verifier.accepts_opaque_tokens()
    }

    fn supports_api_server_audience(&self) -> bool {
        self.verifier.supports_api_server_audience() && self.fallback.supports_api_server_audience()
    }
}

/// Returns the fallback's verdict if it counts. An acceptance is marked. A rejection counts if it
/// states a fact about the token; whether a key, an issuer or an algorithm is known, and how long a
/// token may live, depends on the fallback's configuration.
fn counts(verdict: Verdict) -> Option<Verdict> {
    match verdict {
        Verdict::Accept(acceptance) => Some(Verdict::Accept(acceptance.by_fallback())),
        Verdict::Reject(
            RejectReason::UnknownKey
            | RejectReason::Issuer
            | RejectReason::Algorithm
            | RejectReason::LifetimeTooLong,
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

/// Returns whether the backend is unavailable. Any other failure is a mistake, which must not lead
/// to permanent offline verification, or concerns one token, which must not affect the others.
fn is_outage(kind: VerifyErrorKind) -> bool {
    matches!(
        kind,
        VerifyErrorKind::Unavailable | VerifyErrorKind::Timeout | VerifyErrorKind::RateLimited
    )
}

/// Returns whether the backend answered, although without a decision. `Inconclusive` does not
/// count: a screen may have computed it while the backend is down.
fn is_an_answer(kind: VerifyErrorKind) -> bool {
    matches!(
        kind,
        VerifyErrorKind::Unauthenticated
            | VerifyErrorKind::Forbidden
            | VerifyErrorKind::InvalidResponse
    )
}

/// Returns whether the verdict shows that the verifier's backend works. Other rejections may have
/// been computed, by a screen for instance.
fn comes_from_the_backend(verdict: &Verdict) -> bool {
    matches!(
        verdict,
        Verdict::Accept(_) | Verdict::Reject(RejectReason::Unauthenticated | RejectReason::Denied)
    )
}
