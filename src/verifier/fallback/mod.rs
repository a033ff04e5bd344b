//! A verifier with another one in its place while it is unavailable.

mod call;
mod circuit_breaker;
mod outcomes;
mod rejected_tokens;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;

pub(super) use self::outcomes::is_outage;
use self::{
    circuit_breaker::{CircuitBreaker, CircuitState, Phase},
    outcomes::{counts, is_acceptance},
    rejected_tokens::RejectedTokens,
};
use super::verifier::Verifier;
use crate::{
    audience::Audiences,
    background_task::Tasks,
    clock::Clock,
    error::VerifyError,
    readiness::{Need, NeedState},
    token::BearerToken,
    verdict::{RejectReason, Verdict},
};

/// A verifier with a fallback for its outages. See
/// [`VerifierExt::or_when_unavailable`](crate::VerifierExt::or_when_unavailable).
///
/// Clones share one circuit breaker.
#[derive(Debug)]
pub struct Fallback<V, F> {
    verifier: Arc<V>,
    fallback: F,
    suspect_after: Duration,
    breaker: Arc<CircuitBreaker>,
    rejected: Arc<RejectedTokens>,
    /// Calls of the verifier that nobody waits for any more.
    detached: Arc<Tasks>,
    detached_permits: Arc<Semaphore>,
    clock: Clock,
}

/// Upper bound for the calls that nobody waits for.
const MAX_DETACHED: usize = 64;

/// How often a caller without a permit waits for a suspicion: for the calls that are signs of an
/// outage, and for one that begins after them.
const MAX_WAITS: usize = 3;

/// Bound of the time until suspicion: below it, each slow answer would be an outage.
const MIN_SUSPECT_AFTER: Duration = Duration::from_millis(100);

impl<V, F: Clone> Clone for Fallback<V, F> {
    fn clone(&self) -> Self {
        Self {
            verifier: Arc::clone(&self.verifier),
            fallback: self.fallback.clone(),
            suspect_after: self.suspect_after,
            breaker: Arc::clone(&self.breaker),
            rejected: Arc::clone(&self.rejected),
            detached: Arc::clone(&self.detached),
            detached_permits: Arc::clone(&self.detached_permits),
            clock: self.clock.clone(),
        }
    }
}

impl<V, F> Fallback<V, F> {
    pub(super) fn new(verifier: V, fallback: F) -> Self {
        Self {
            verifier: Arc::new(verifier),
            fallback,
            suspect_after: Duration::from_secs(1),
            breaker: Arc::default(),
            rejected: Arc::default(),
            detached: Arc::default(),
            detached_permits: Arc::new(Semaphore::new(MAX_DETACHED)),
            clock: Clock::system(),
        }
    }

    /// Sets for how long the verifier may decide about nobody, while it is asked, before an outage
    /// is suspected and the fallback decides. Defaults to 1 s; at least 100 ms.
    ///
    /// No longer than the authenticator's [`max_wait`], or callers in its queue are told that the
    /// limit is reached (503) although the fallback could decide. Much shorter than the verifier's
    /// usual answer, and it never decides at times of little traffic.
    ///
    /// [`max_wait`]: crate::authenticator::AuthenticatorBuilder::max_wait
    #[must_use]
    pub fn suspect_outage_after(mut self, undecided: Duration) -> Self {
        self.suspect_after = undecided.max(MIN_SUSPECT_AFTER);
        self
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
    /// only the verifier takes opaque tokens. What the verifier has rejected is the verifier's.
    fn counting(&self, verdict: Verdict, token: BearerToken<'_>) -> Option<Verdict> {
        let is_opaque = verdict == Verdict::Reject(RejectReason::Malformed)
            && self.verifier.accepts_opaque_tokens()
            && !self.fallback.accepts_opaque_tokens();
        let verdict = counts(verdict).filter(|_| !is_opaque)?;
        let is_rejected = matches!(verdict, Verdict::Accept(_))
            && self.rejected.contains(self.rejected.hash(token));
        (!is_rejected).then_some(verdict)
    }

    /// Returns the fallback's verdict, if it counts.
    async fn fall_back(&self, token: BearerToken<'_>, audiences: &Audiences) -> Option<Verdict> {
        match self.fallback.verify(token, audiences).await {
            Ok(verdict) => self.counting(verdict, token),
            Err(error) => {
                self.breaker.log_fallback_failure(&error, self.clock.monotonic());
                None
            }
        }
    }

    fn fall_back_now(&self, token: BearerToken<'_>, audiences: &Audiences) -> Option<Verdict> {
        self.counting(self.fallback.verify_now(token, audiences)?, token)
    }

    fn accepts_now(&self, token: BearerToken<'_>, audiences: &Audiences) -> bool {
        self.fall_back_now(token, audiences).as_ref().is_some_and(is_acceptance)
    }

    fn is_accepted(&self, verdict: Verdict, token: BearerToken<'_>) -> bool {
        self.counting(verdict, token).as_ref().is_some_and(is_acceptance)
    }

    fn phase(&self) -> Phase {
        self.breaker.phase(self.clock.monotonic(), self.suspect_after)
    }
}

impl<V: Verifier, F: Verifier> Verifier for Fallback<V, F> {
    async fn verify(
        &self,
        token: BearerToken<'_>,
        audiences: &Audiences,
    ) -> Result<Verdict, VerifyError> {
        self.fallback.warm_up();
        if !matches!(self.phase(), Phase::Closed { .. })
            && let Some(verdict) = self.fall_back(token, audiences).await
        {
            if is_acceptance(&verdict) {
                self.probe(token, audiences);
            }
            return Ok(verdict);
        }
        match self.breaker.state() {
            call @ CircuitState::Open(_) => {
                let _permit = self.breaker.try_acquire(self.clock.monotonic())?;
                let outcome = self.verifier.verify(token, audiences).await;
                call.record(&outcome, None, self.clock.monotonic());
                self.rejected.record(self.rejected.hash(token), &outcome, false);
                outcome
            }
            call => self.ask(call, token, audiences).await,
        }
    }

    /// Returns what the fallback computes while an outage is known or suspected, and asks the
    /// verifier in the background when that is due. Otherwise returns the verifier's rejections
    /// only: `verify` must see an acceptance, because it ends a suspicion.
    fn verify_now(&self, token: BearerToken<'_>, audiences: &Audiences) -> Option<Verdict> {
        if let Phase::Closed { .. } = self.phase() {
            // Strangers may hold all permits, so that no token of the issuer gets as far as a call.
            let undecided = self.suspect_after / 4;
            if self.breaker.lacks_a_sign(self.clock.monotonic(), undecided)
                && self.accepts_now(token, audiences)
            {
                self.probe(token, audiences);
            }
            let verdict = self.verifier.verify_now(token, audiences)?;
            // The fallback finds other reasons by itself, and junk costs one signature check.
            if verdict == Verdict::Reject(RejectReason::Deleted) {
                let is_accepted = self.accepts_now(token, audiences);
                self.rejected.record(self.rejected.hash(token), &Ok(verdict.clone()), is_accepted);
            }
            return Some(verdict).filter(|verdict| matches!(verdict, Verdict::Reject(_)));
        }
        let verdict = self.fall_back_now(token, audiences)?;
        if is_acceptance(&verdict) {
            self.probe(token, audiences);
        }
        Some(verdict)
    }

    /// Waits until an outage is suspected, or until the verifier shows that it works.
    async fn verify_when_saturated(
        &self,
        token: BearerToken<'_>,
        audiences: &Audiences,
    ) -> Option<Verdict> {
        for _ in 0..MAX_WAITS {
            let verdict = self.verify_now(token, audiences);
            if verdict.is_some() || !self.accepts_now(token, audiences) {
                return verdict;
            }
            let Phase::Closed { until_suspicion } = self.phase() else { continue };
            if self.breaker.lacks_a_sign(self.clock.monotonic(), Duration::ZERO) {
                self.probe(token, audiences);
            }
            let changed = self.clock.timeout(until_suspicion, self.breaker.changed()).await;
            if changed.is_some() && matches!(self.phase(), Phase::Closed { .. }) {
                return None;
            }
        }
        self.verify_now(token, audiences)
    }

    fn warm_up(&self) {
        self.verifier.warm_up();
        self.fallback.warm_up();
    }

    fn stop_background_tasks(&self) {
        self.detached.abort_all();
        self.verifier.stop_background_tasks();
        self.fallback.stop_background_tasks();
    }

    fn accepts_opaque_tokens(&self) -> bool {
        self.verifier.accepts_opaque_tokens()
    }

    fn supports_api_server_audience(&self) -> bool {
        self.verifier.supports_api_server_audience() && self.fallback.supports_api_server_audience()
    }

    /// One of the two is enough during an outage. A need that is missing is no outage: then the
    /// fallback is not asked.
    async fn check_needs(&self) -> Vec<Need> {
        let mut needs = self.verifier.check_needs().await;
        let fallback = self.fallback.check_needs().await;
        if fallback.iter().all(|need| need.state == NeedState::Met) {
            for need in needs.iter_mut().filter(|need| need.state == NeedState::Unknown) {
                need.state = NeedState::Degraded;
            }
        }
        needs.extend(fallback.into_iter().map(Need::dispensable));
        needs
    }
}
