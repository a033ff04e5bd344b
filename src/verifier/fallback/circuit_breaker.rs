//! Circuit breaker: tracks whether the verifier is available and which caller probes it.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{error::VerifyError, lock::lock, warn_limit::WarnLimit};

/// Bounds of the time for which the breaker stays open after a failure.
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Concurrent calls of an unavailable verifier about tokens that the fallback cannot decide. Each
/// may take a whole time limit and holds a permit of the authenticator, so that made-up key ids
/// would take all of these. A few calls are enough to notice that some backends answer.
const MAX_CALLS_WHILE_OPEN: usize = 4;

#[derive(Debug)]
pub(super) struct CircuitBreaker {
    state: Mutex<State>,
    permits: Semaphore,
    warn_limit: WarnLimit,
}

#[derive(Debug, Default)]
struct State {
    /// Incremented when an outage begins, when a probe fails and when the outage ends. A call that
    /// began in an earlier epoch says nothing about this one.
    epoch: u64,
    outage: Option<Pause>,
    /// The calls under way that began while no outage was known.
    calls: usize,
    /// When the first of these calls began, or the verifier last decided about anybody since.
    undecided_since: Option<Instant>,
    /// Whether the suspicion of an outage was logged.
    is_suspicion_logged: bool,
}

/// The time until which the verifier is not called, except by a probe.
#[derive(Debug)]
struct Pause {
    error: VerifyError,
    until: Instant,
    is_probed: bool,
}

impl Pause {
    fn holds(&self, now: Instant) -> bool {
        self.is_probed || now < self.until
    }

    fn error(&self, now: Instant) -> VerifyError {
        let left = self.until.saturating_duration_since(now).max(MIN_PAUSE);
        self.error.clone().with_retry_after(left)
    }
}

/// The state of the breaker, as one call of the verifier sees it.
pub(super) enum CircuitState {
    /// No outage is known: call the verifier.
    Closed(ClosedCall),
    /// The pause is over: this caller probes the verifier, and no other one meanwhile.
    HalfOpen(Probe),
    /// The fallback decides. What it cannot decide may still need the verifier.
    Open(Call),
}

/// A call of the verifier, and the epoch in which it began.
pub(super) struct Call {
    breaker: Arc<CircuitBreaker>,
    epoch: u64,
}

/// A call that counts as one under way until it is dropped.
pub(super) struct ClosedCall(Call);

/// Returns the role of the probe when dropped, also if the caller goes away or panics.
pub(super) struct Probe(Call);

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            permits: Semaphore::new(MAX_CALLS_WHILE_OPEN),
            warn_limit: WarnLimit::default(),
        }
    }
}

impl CircuitBreaker {
    /// Returns the state for a call that begins now.
    pub(super) fn state(self: &Arc<Self>, now: Instant) -> CircuitState {
        let mut state = self.lock();
        let call = Call { breaker: Arc::clone(self), epoch: state.epoch };
        match &mut state.outage {
            None => {
                state.calls += 1;
                state.undecided_since.get_or_insert(now);
                CircuitState::Closed(ClosedCall(call))
            }
            Some(pause) if pause.holds(now) => CircuitState::Open(call),
            Some(pause) => {
                pause.is_probed = true;
                CircuitState::HalfOpen(Probe(call))
            }
        }
    }

    /// Returns who decides about a token now, without a role for the caller.
    pub(super) fn phase(&self, now: Instant, suspect_after: Duration) -> Phase {
        let state = self.lock();
        match &state.outage {
            Some(pause) if pause.holds(now) => Phase::Open,
            Some(_) => Phase::ProbeDue,
            None => match state.until_suspicion(now, suspect_after) {
                Some(Duration::ZERO) => Phase::Open,
                left => Phase::Closed { until_suspicion: left.unwrap_or(suspect_after) },
            },
        }
    }

    /// Logs that the fallback cannot decide, although it is needed.
    pub(super) fn log_fallback_failure(&self, error: &VerifyError, now: Instant) {
        match self.warn_limit.admit(error.kind().as_str(), now) {
            Some(suppressed) => tracing::warn!(%error, suppressed, "the fallback cannot decide"),
            None => tracing::debug!(%error, "the fallback cannot decide"),
        }
    }

    /// Logs that an outage is suspected, once until the verifier decides again.
    pub(super) fn log_suspicion(&self, suspect_after: Duration) {
        if !std::mem::replace(&mut self.lock().is_suspicion_logged, true) {
            tracing::warn!(
                ?suspect_after,
                "the verifier decides about nobody; the fallback decides until it does"
            );
        }
    }

    /// Returns a permit to call the verifier although the breaker is open; none is needed if the
    /// outage has ended since. If none is left, returns the error of the outage.
    pub(super) fn try_acquire(
        &self,
        now: Instant,
    ) -> Result<Option<SemaphorePermit<'_>>, VerifyError> {
        match &self.lock().outage {
            None => Ok(None),
            Some(pause) => self.permits.try_acquire().map(Some).map_err(|_| pause.error(now)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// Who decides about a token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The verifier; after this time without a decision an outage is suspected.
    Closed { until_suspicion: Duration },
    /// The fallback, if it can: an outage is known or suspected.
    Open,
    /// The fallback, if it can, while a caller probes the verifier.
    ProbeDue,
}

impl State {
    /// Returns how long an outage is not suspected yet; `None` if no call is under way.
    fn until_suspicion(&self, now: Instant, suspect_after: Duration) -> Option<Duration> {
        let undecided = now.saturating_duration_since(self.undecided_since?);
        Some(suspect_after.saturating_sub(undecided))
    }
}

impl CircuitState {
    /// Records that the verifier's backend answered: ends a suspicion, and closes the breaker.
    pub(super) fn record_success(self, now: Instant) {
        let (Self::Closed(ClosedCall(call)) | Self::HalfOpen(Probe(call)) | Self::Open(call)) =
            &self;
        let mut state = call.breaker.lock();
        if state.undecided_since.is_some() {
            state.undecided_since = Some(now);
        }
        let was_suspected = std::mem::take(&mut state.is_suspicion_logged);
        let is_over = state.epoch == call.epoch && state.outage.take().is_some();
        if is_over {
            state.epoch += 1;
        }
        drop(state);
        if is_over || was_suspected {
            tracing::info!("the verifier answers again; the fallback no longer decides");
        }
    }

    /// Records that the verifier's backend is unavailable: opens the breaker.
    pub(super) fn record_failure(self, error: &VerifyError, now: Instant) {
        let (Self::Closed(ClosedCall(call)) | Self::HalfOpen(Probe(call))) = &self else {
            // A call while the breaker is open does not postpone the next probe.
            return;
        };
        let mut state = call.breaker.lock();
        if state.epoch != call.epoch {
            return;
        }
        state.epoch += 1;
        let length = error.retry_after().unwrap_or_default().clamp(MIN_PAUSE, MAX_PAUSE);
        let began = state
            .outage
            .replace(Pause { error: error.clone(), until: now + length, is_probed: false })
            .is_none();
        drop(state);
        if began {
            tracing::warn!(%error, "the verifier is unavailable; the fallback decides until it answers again");
        }
    }
}

impl Drop for ClosedCall {
    fn drop(&mut self) {
        let mut state = self.0.breaker.lock();
        state.calls = state.calls.saturating_sub(1);
        if state.calls == 0 {
            state.undecided_since = None;
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let Call { breaker, epoch } = &self.0;
        let mut state = breaker.lock();
        if state.epoch == *epoch
            && let Some(pause) = &mut state.outage
        {
            pause.is_probed = false;
        }
    }
}
