//! A verifier with another one in its place while it is unavailable.

mod circuit_breaker;
#[cfg(test)]
mod tests;

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tokio::runtime::Handle;

use self::circuit_breaker::{CircuitBreaker, CircuitState, Phase};
use super::verifier::Verifier;
use crate::{
    audience::Audiences,
    background_task::Tasks,
    clock::Clock,
    error::{VerifyError, VerifyErrorKind},
    readiness::{Need, NeedState},
    token::BearerToken,
    verdict::{Outcome, RejectReason, Verdict},
};

/// How long a call of the verifier may take that nobody waits for. Longer than the limits of this
/// crate's verifiers, whose errors are more specific.
const DETACHED_LIMIT: Duration = Duration::from_secs(30);

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
    /// Calls of the verifier that nobody waits for any more.
    detached: Arc<Tasks>,
    clock: Clock,
}

impl<V, F: Clone> Clone for Fallback<V, F> {
    fn clone(&self) -> Self {
        Self {
            verifier: Arc::clone(&self.verifier),
            fallback: self.fallback.clone(),
            suspect_after: self.suspect_after,
            breaker: Arc::clone(&self.breaker),
            detached: Arc::clone(&self.detached),
            clock: self.clock.clone(),
        }
    }
}

type Asked = Pin<Box<dyn Future<Output = Outcome> + Send>>;

impl<V, F> Fallback<V, F> {
    pub(super) fn new(verifier: V, fallback: F) -> Self {
        Self {
            verifier: Arc::new(verifier),
            fallback,
            suspect_after: Duration::from_secs(1),
            breaker: Arc::default(),
            detached: Arc::default(),
            clock: Clock::system(),
        }
    }

    /// Sets for how long the verifier may decide about nobody, while it is asked, before an outage
    /// is suspected and the fallback decides. Defaults to 1 s.
    ///
    /// No longer than the authenticator's [`max_wait`], or callers in its queue are told that the
    /// limit is reached (503) although the fallback could decide. Much shorter than the verifier's
    /// usual answer, and it never decides at times of little traffic.
    ///
    /// [`max_wait`]: crate::authenticator::AuthenticatorBuilder::max_wait
    #[must_use]
    pub fn suspect_outage_after(mut self, undecided: Duration) -> Self {
        self.suspect_after = undecided;
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
                self.breaker.log_fallback_failure(&error, self.clock.monotonic());
                None
            }
        }
    }

    fn phase(&self) -> Phase {
        self.breaker.phase(self.clock.monotonic(), self.suspect_after)
    }

    /// Begins a call of the verifier that can outlive its caller.
    fn call(&self, token: BearerToken<'_>, audiences: &Audiences) -> Asked {
        let (verifier, token, audiences) =
            (Arc::clone(&self.verifier), token.to_owned(), audiences.clone());
        Box::pin(async move { verifier.verify(token.borrow(), &audiences).await })
    }

    /// Asks the verifier, until an outage is suspected and the fallback decides.
    async fn ask(
        &self,
        call: CircuitState,
        token: BearerToken<'_>,
        audiences: &Audiences,
    ) -> Outcome {
        let mut asking = Asking { fallback: self, call: Some(call) };
        let mut asked = self.call(token, audiences);
        while let Phase::Closed { until_suspicion } = self.phase() {
            if let Some(outcome) = self.clock.timeout(until_suspicion, &mut asked).await {
                return asking.answered(outcome, token, audiences).await;
            }
        }
        let mut fallback = pin!(self.fall_back(token, audiences));
        let mut has_failed = false;
        let first = poll_fn(|cx| {
            if let Poll::Ready(outcome) = asked.as_mut().poll(cx) {
                return Poll::Ready(Err(outcome));
            }
            if !has_failed && let Poll::Ready(verdict) = fallback.as_mut().poll(cx) {
                match verdict {
                    Some(verdict) => return Poll::Ready(Ok(verdict)),
                    None => has_failed = true,
                }
            }
            Poll::Pending
        });
        match first.await {
            Err(outcome) => asking.answered(outcome, token, audiences).await,
            Ok(verdict) => {
                self.breaker.log_suspicion(self.suspect_after);
                if let Some(call) = asking.call.take() {
                    self.detach(call, asked);
                }
                Ok(verdict)
            }
        }
    }

    /// Lets a call go on that nobody waits for, because its outcome ends the outage for all.
    /// Outside of a runtime it ends here.
    fn detach(&self, call: CircuitState, asked: Asked) {
        let Ok(runtime) = Handle::try_current() else { return };
        let clock = self.clock.clone();
        self.detached.spawn(&runtime, async move {
            let outcome =
                clock.timeout(DETACHED_LIMIT, asked).await.unwrap_or_else(|| Err(hangs()));
            record(call, &outcome, &clock);
        });
    }

    /// Begins a probe in the background if one is due, with a token that the fallback decides.
    fn probe(&self, token: BearerToken<'_>, audiences: &Audiences) {
        if Handle::try_current().is_err() {
            return;
        }
        if let probe @ CircuitState::HalfOpen(_) = self.breaker.state(self.clock.monotonic()) {
            self.detach(probe, self.call(token, audiences));
        }
    }
}

/// A call of the verifier that its caller waits for.
struct Asking<'a, V, F> {
    fallback: &'a Fallback<V, F>,
    call: Option<CircuitState>,
}

impl<V: Verifier, F: Verifier> Asking<'_, V, F> {
    /// Records the outcome. In an outage, returns what the fallback decides.
    async fn answered(
        mut self,
        outcome: Outcome,
        token: BearerToken<'_>,
        audiences: &Audiences,
    ) -> Outcome {
        if let Some(call) = self.call.take() {
            record(call, &outcome, &self.fallback.clock);
        }
        match outcome {
            Err(error) if is_outage(error.kind()) => {
                self.fallback.fall_back(token, audiences).await.ok_or(error)
            }
            outcome => outcome,
        }
    }
}

impl<V, F> Drop for Asking<'_, V, F> {
    /// A call that ends without an outcome while an outage is suspected, for example at the
    /// authenticator's time limit, is a failure.
    fn drop(&mut self) {
        let Some(call @ CircuitState::Closed(_)) = self.call.take() else { return };
        let Fallback { breaker, clock, suspect_after, .. } = self.fallback;
        let now = clock.monotonic();
        if breaker.phase(now, *suspect_after) == Phase::Open && !std::thread::panicking() {
            call.record_failure(&hangs(), now);
        }
    }
}

fn hangs() -> VerifyError {
    VerifyError::new(VerifyErrorKind::Timeout, "the verifier did not decide in time")
}

impl<V: Verifier, F: Verifier> Verifier for Fallback<V, F> {
    async fn verify(
        &self,
        token: BearerToken<'_>,
        audiences: &Audiences,
    ) -> Result<Verdict, VerifyError> {
        self.fallback.warm_up();
        if self.phase() == Phase::Open
            && let Some(verdict) = self.fall_back(token, audiences).await
        {
            return Ok(verdict);
        }
        match self.breaker.state(self.clock.monotonic()) {
            call @ (CircuitState::Closed(_) | CircuitState::HalfOpen(_)) => {
                self.ask(call, token, audiences).await
            }
            // The verifier decides what the fallback cannot, also while the breaker is open.
            call @ CircuitState::Open(_) => {
                let _permit = self.breaker.try_acquire(self.clock.monotonic())?;
                let outcome = self.verifier.verify(token, audiences).await;
                record(call, &outcome, &self.clock);
                outcome
            }
        }
    }

    /// Returns what the fallback computes while an outage is known or suspected, and probes the
    /// verifier in the background when that is due. Otherwise returns the verifier's rejections
    /// only: `verify` must see an acceptance, because it closes the breaker.
    fn verify_now(&self, token: BearerToken<'_>, audiences: &Audiences) -> Option<Verdict> {
        let phase = self.phase();
        if !matches!(phase, Phase::Closed { .. })
            && let Some(verdict) = self.fallback.verify_now(token, audiences)
            && let Some(verdict) = self.counting(verdict)
        {
            // Not with a token that the fallback rejects: anybody can make one up.
            if phase == Phase::ProbeDue && matches!(verdict, Verdict::Accept(_)) {
                self.probe(token, audiences);
            }
            return Some(verdict);
        }
        if phase == Phase::Open {
            return None;
        }
        self.verifier
            .verify_now(token, audiences)
            .filter(|verdict| matches!(verdict, Verdict::Reject(_)))
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

fn record(call: CircuitState, outcome: &Outcome, clock: &Clock) {
    match outcome {
        Ok(verdict) if comes_from_the_backend(verdict) => call.record_success(clock.monotonic()),
        Err(error) if is_outage(error.kind()) => call.record_failure(error, clock.monotonic()),
        Err(error) if is_an_answer(error.kind()) => call.record_success(clock.monotonic()),
        Ok(_) | Err(_) => {}
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
            | RejectReason::Deleted
            | RejectReason::Denied,
        ) => Some(verdict),
    }
}

/// Returns whether the backend is unavailable. Any other failure is a mistake, which must not lead
/// to permanent offline verification, or concerns one token, which must not affect the others.
pub(super) fn is_outage(kind: VerifyErrorKind) -> bool {
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
