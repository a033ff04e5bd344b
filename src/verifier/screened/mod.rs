//! A verifier behind a screen, which rejects tokens before the verifier is called.

mod rate_limit;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::rate_limit::RateLimit;
use super::verifier::Verifier;
use crate::{
    audience::Audiences,
    clock::Clock,
    error::{VerifyError, VerifyErrorKind},
    readiness::Need,
    token::BearerToken,
    verdict::Verdict,
};

/// A verifier behind a screen. See [`VerifierExt::screened_by`](crate::VerifierExt::screened_by).
///
/// Clones share the rate limit of tokens that the screen cannot decide about.
#[derive(Clone, Debug)]
pub struct Screened<V, S> {
    verifier: V,
    screen: S,
    undecided: Arc<RateLimit>,
    clock: Clock,
}

impl<V, S> Screened<V, S> {
    pub(super) fn new(verifier: V, screen: S) -> Self {
        Self { verifier, screen, undecided: Arc::default(), clock: Clock::system() }
    }

    /// Sets the clock of the rate limit. Defaults to the system's.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Returns whether a token that the screen could not decide about goes on to the verifier. If
    /// the screen fails, all do. If it works, the rate is limited, because anybody can make up
    /// such tokens.
    fn lets_through(&self, error: &VerifyError) -> bool {
        error.kind() != VerifyErrorKind::Inconclusive
            || self.undecided.try_acquire(self.clock.monotonic())
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

    /// Returns rejections only: the verifier decides what the screen accepts, which takes I/O.
    fn verify_now(&self, token: BearerToken<'_>, audiences: &Audiences) -> Option<Verdict> {
        self.screen
            .verify_now(token, audiences)
            .filter(|verdict| matches!(verdict, Verdict::Reject(_)))
    }

    /// Asks the verifier about what the screen accepts.
    async fn verify_when_saturated(
        &self,
        token: BearerToken<'_>,
        audiences: &Audiences,
    ) -> Option<Verdict> {
        match self.screen.verify_now(token, audiences)? {
            Verdict::Accept(_) => self.verifier.verify_when_saturated(token, audiences).await,
            rejection @ Verdict::Reject(_) => Some(rejection),
        }
    }

    fn warm_up(&self) {
        self.verifier.warm_up();
        self.screen.warm_up();
    }

    fn stop_background_tasks(&self) {
        self.verifier.stop_background_tasks();
        self.screen.stop_background_tasks();
    }

    /// What the screen cannot read, it rejects.
    fn accepts_opaque_tokens(&self) -> bool {
        self.verifier.accepts_opaque_tokens() && self.screen.accepts_opaque_tokens()
    }

    fn supports_api_server_audience(&self) -> bool {
        self.verifier.supports_api_server_audience() && self.screen.supports_api_server_audience()
    }

    /// The service answers without the screen: the verifier then decides about every token.
    async fn check_needs(&self) -> Vec<Need> {
        let mut needs = self.verifier.check_needs().await;
        needs.extend(self.screen.check_needs().await.into_iter().map(Need::dispensable));
        needs
    }
}
