//! Circuit breaker: tracks whether the verifier is available and which caller probes it.

use std::{
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{error::VerifyError, lock::lock};

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
}

#[derive(Debug, Default)]
struct State {
    /// Incremented when an outage begins, when a probe fails and when the outage ends. A call that
    /// began in an earlier epoch says nothing about this one.
    epoch: u64,
    outage: Option<Pause>,
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
pub(super) enum CircuitState<'a> {
    /// No outage is known: call the verifier.
    Closed(Call<'a>),
    /// The pause is over: this caller probes the verifier, and no other one meanwhile.
    HalfOpen(Probe<'a>),
    /// The fallback decides. What it cannot decide may still need the verifier.
    Open(Call<'a>),
}

/// A call of the verifier, and the epoch in which it began.
pub(super) struct Call<'a> {
    breaker: &'a CircuitBreaker,
    epoch: u64,
}

/// Returns the role of the probe when dropped, also if the caller goes away or panics.
pub(super) struct Probe<'a>(Call<'a>);

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self { state: Mutex::default(), permits: Semaphore::new(MAX_CALLS_WHILE_OPEN) }
    }
}

impl CircuitBreaker {
    /// Returns the state for a call that begins now.
    pub(super) fn state(&self, now: Instant) -> CircuitState<'_> {
        let mut state = self.lock();
        let call = Call { breaker: self, epoch: state.epoch };
        match &mut state.outage {
            None => CircuitState::Closed(call),
            Some(pause) if pause.holds(now) => CircuitState::Open(call),
            Some(pause) => {
                pause.is_probed = true;
                CircuitState::HalfOpen(Probe(call))
            }
        }
    }

    pub(super) fn is_open(&self, now: Instant) -> bool {
        self.lock().outage.as_ref().is_some_and(|pause| pause.holds(now))
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

impl CircuitState<'_> {
    /// Records that the verifier's backend answered: closes the breaker.
    pub(super) fn record_success(self) {
        let (Self::Closed(call) | Self::HalfOpen(Probe(call)) | Self::Open(call)) = &self;
        let mut state = call.breaker.lock();
        if state.epoch != call.epoch || state.outage.take().is_none() {
            return;
        }
        state.epoch += 1;
        drop(state);
        tracing::info!("the verifier answers again; the fallback no longer decides");
    }

    /// Records that the verifier's backend is unavailable: opens the breaker.
    pub(super) fn record_failure(self, error: &VerifyError, now: Instant) {
        let (Self::Closed(call) | Self::HalfOpen(Probe(call))) = &self else {
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

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        let Call { breaker, epoch } = self.0;
        let mut state = breaker.lock();
        if state.epoch == epoch
            && let Some(pause) = &mut state.outage
        {
            pause.is_probed = false;
        }
    }
}
