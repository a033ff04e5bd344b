//! One verifier before another: what the first refuses, the second is not asked about.

mod rate_limit;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::rate_limit::Passes;
use super::verifier::Verifier;
use crate::{
    audience::Audiences,
    clock::Clock,
    error::{VerifyError, VerifyErrorKind},
    token::BearerToken,
    verdict::Verdict,
};

/// A verifier behind a screen. See [`VerifierExt::screened_by`](crate::VerifierExt::screened_by).
///
/// Clones share the count of what the screen could not tell and let through.
#[derive(Clone, Debug)]
pub struct Screened<V, S> {
    verifier: V,
    screen: S,
    passes: Arc<Passes>,
    clock: Clock,
}

impl<V, S> Screened<V, S> {
    pub(super) fn new(verifier: V, screen: S) -> Self {
        Self { verifier, screen, passes: Arc::default(), clock: Clock::system() }
    }

    /// Sets the clock by which is counted what the screen lets through. Defaults to the system's.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Whether a token that the screen could not decide about goes on to the verifier. Where the screen is out of order, all do;
    /// where it works and cannot tell about this one, anybody can make such tokens up, one after the other.
    fn lets_through(&self, undecided: &VerifyError) -> bool {
        undecided.kind() != VerifyErrorKind::Inconclusive
            || self.passes.take(self.clock.monotonic())
    }
}

impl<V: Verifier, S: Verifier> Verifier for Screened<V, S> {
    async fn verify(
        &self,
        token: BearerToken<'_>,
        audiences: &Audiences,
    ) -> Result<Verdict, VerifyError> {
        match self.screen.verify(token, audiences).await {
            Ok(Verdict::Reject(reason)) => return Ok(Verdict::Reject(reason)),
            Ok(Verdict::Accept(_)) => {}
            Err(error) if self.lets_through(&error) => {
                tracing::debug!(%error, "the screen cannot decide")
            }
            Err(error) => return Err(error),
        }
        self.verifier.verify(token, audiences).await
    }

    /// A refusal only: what the screen accepts is for the verifier to decide, which takes waiting.
    fn verify_now(&self, token: BearerToken<'_>, audiences: &Audiences) -> Option<Verdict> {
        self.screen
            .verify_now(token, audiences)
            .filter(|verdict| matches!(verdict, Verdict::Reject(_)))
    }
}
