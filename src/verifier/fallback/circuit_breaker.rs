//! Circuit breaker: tracks whether the verifier is available and which caller probes it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use super::outcomes::{comes_from_the_backend, is_an_answer, is_outage};
use crate::{
    error::VerifyError,
    lock::lock,
    telemetry::{Gauges, Measure},
    verdict::Outcome,
    warn_limit::WarnLimit,
};

/// Bounds of the time for which the breaker stays open after a failure.
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// How long a call of the verifier may take that nobody waits for. Longer than the limits of this
/// crate's verifiers, whose errors are more specific.
pub(super) const DETACHED_LIMIT: Duration = Duration::from_secs(30);

/// Concurrent calls of an unavailable verifier about tokens that the fallback cannot decide. Each
/// may take a whole time limit and holds a permit of the authenticator, so that made-up key ids
/// would take all of these. A few calls are enough to notice that some backends answer.
const MAX_CALLS_WHILE_OPEN: usize = 4;

#[derive(Debug)]
pub(super) struct CircuitBreaker {
    state: Mutex<State>,
    permits: Semaphore,
    /// Notified of each decision and failure.
    changed: Notify,
    warn_limit: WarnLimit,
    gauges: Gauges<1>,
}

#[derive(Debug, Default)]
struct State {
    /// Incremented when an outage begins, when a probe fails and when the outage ends. A call that
    /// began in an earlier epoch says nothing about this one.
    epoch: u64,
    outage: Option<Pause>,
    /// The calls under way, by number.
    calls: BTreeMap<u64, UnderWay>,
    last_number: u64,
    last_decision: Option<Instant>,
    /// The earliest time of the next probe before an outage is known.
    next_probe: Option<Instant>,
    is_suspicion_logged: bool,
    is_outage_logged: bool,
}

#[derive(Debug)]
struct UnderWay {
    began: Instant,
    /// Whether it is a sign of an outage if it takes long.
    is_sign: bool,
}

/// The time until which the verifier is not called, except by a probe.
#[derive(Debug)]
struct Pause {
    error: VerifyError,
    until: Instant,
    /// Until when a probe is under way. It has a limit, because nobody may drive its runtime.
    probed_until: Option<Instant>,
}

impl Pause {
    fn end(&self) -> Instant {
        self.probed_until.map_or(self.until, |until| until.max(self.until))
    }

    fn holds(&self, now: Instant) -> bool {
        now < self.end()
    }

    /// Whether nobody has called the verifier for long since the pause.
    fn is_old(&self, now: Instant) -> bool {
        now >= self.end() + MAX_PAUSE
    }

    fn error(&self, now: Instant) -> VerifyError {
        let left = self.until.saturating_duration_since(now).max(MIN_PAUSE);
        self.error.clone().with_retry_after(left)
    }
}

/// The state of the breaker, as one call of the verifier sees it.
pub(super) enum CircuitState {
    /// No outage is known: call the verifier.
    Closed(Call),
    /// The pause is over: this call probes the verifier, and no other one meanwhile.
    HalfOpen(Probe),
    /// The fallback decides. What it cannot decide may still need the verifier.
    Open(Call),
}

/// A call of the verifier, and the epoch in which it began.
pub(super) struct Call {
    breaker: Arc<CircuitBreaker>,
    epoch: u64,
}

/// A call under way, until this is dropped.
pub(super) struct Watched {
    breaker: Arc<CircuitBreaker>,
    number: u64,
}

/// Returns the role of the probe when dropped, also if the caller goes away or panics.
pub(super) struct Probe(Call);

impl Default for CircuitBreaker {
    fn default() -> Self {
        let breaker = Self {
            state: Mutex::default(),
            permits: Semaphore::new(MAX_CALLS_WHILE_OPEN),
            changed: Notify::new(),
            warn_limit: WarnLimit::default(),
            gauges: Gauges::new([Measure::ActiveFallbacks]),
        };
        // A gauge that appears with the first outage looks like a service without a fallback.
        breaker.publish_gauges();
        breaker
    }
}

impl CircuitBreaker {
    /// Returns the state for a call that begins now.
    pub(super) fn state(self: &Arc<Self>) -> CircuitState {
        let state = self.lock();
        let call = Call { breaker: Arc::clone(self), epoch: state.epoch };
        if state.outage.is_none() { CircuitState::Closed(call) } else { CircuitState::Open(call) }
    }

    /// Returns the state for a call in the background that may end the outage or be a sign of one,
    /// if one is due: after the pause of a known outage one at a time, before it one a second.
    pub(super) fn claim_probe(self: &Arc<Self>, now: Instant) -> Option<CircuitState> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let call = Call { breaker: Arc::clone(self), epoch: state.epoch };
        match &mut state.outage {
            Some(pause) if pause.holds(now) => None,
            Some(pause) => {
                pause.probed_until = Some(now + DETACHED_LIMIT);
                Some(CircuitState::HalfOpen(Probe(call)))
            }
            None if state.next_probe.is_some_and(|next| now < next) => None,
            None => {
                state.next_probe = Some(now + MIN_PAUSE);
                Some(CircuitState::Closed(call))
            }
        }
    }

    /// Returns whether the verifier has been asked about other tokens and has decided about nobody
    /// for this time, and no call under way can be a sign of an outage.
    pub(super) fn lacks_a_sign(&self, now: Instant, undecided: Duration) -> bool {
        let state = self.lock();
        let since = |began: Instant| state.last_decision.map_or(began, |last| last.max(began));
        let mut calls = state.calls.values();
        state.first_sign().is_none()
            && calls.any(|call| now.saturating_duration_since(since(call.began)) >= undecided)
    }

    /// Returns a guard for a call that begins now.
    pub(super) fn begin(self: &Arc<Self>, began: Instant) -> Watched {
        let mut state = self.lock();
        state.last_number += 1;
        let number = state.last_number;
        state.calls.insert(number, UnderWay { began, is_sign: false });
        drop(state);
        // For a recorder that was installed since.
        self.publish_gauges();
        Watched { breaker: Arc::clone(self), number }
    }

    /// Returns when the verifier next decides or fails.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Returns who decides about a token now, without a role for the caller.
    pub(super) fn phase(&self, now: Instant, suspect_after: Duration) -> Phase {
        let mut state = self.lock();
        if state.end_old_outage(now) {
            drop(state);
            self.publish_gauges();
            state = self.lock();
        }
        match &state.outage {
            Some(pause) if pause.holds(now) => Phase::Open,
            Some(_) => Phase::ProbeDue,
            None => match state.until_suspicion(now, suspect_after) {
                Some(Duration::ZERO) => Phase::Suspected,
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
    pub(super) fn log_suspicion(&self, suspect_after: Duration, now: Instant) {
        let mut state = self.lock();
        if !state.is_suspicion_logged
            && let Some(suppressed) = self.warn_limit.admit("suspicion", now)
        {
            state.is_suspicion_logged = true;
            drop(state);
            tracing::warn!(
                suppressed,
                ?suspect_after,
                "the verifier decides about nobody; the fallback decides until it does"
            );
            self.publish_gauges();
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

    /// The fallback is active while an outage is known, or suspected and it has decided.
    fn publish_gauges(&self) {
        self.gauges.publish(|| {
            let state = self.lock();
            [u64::from(state.outage.is_some() || state.is_suspicion_logged)]
        });
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
    /// The fallback, if it can: an outage is suspected.
    Suspected,
    /// The fallback, if it can: an outage is known.
    Open,
    /// The fallback, if it can, and a probe is due.
    ProbeDue,
}

impl State {
    /// Forgets an outage that nobody has looked at for long. The service was idle, and the fallback
    /// must not decide on an old failure.
    fn end_old_outage(&mut self, now: Instant) -> bool {
        let has_ended = self.outage.take_if(|pause| pause.is_old(now)).is_some();
        self.epoch += u64::from(has_ended);
        has_ended
    }

    /// Returns how long an outage is not suspected yet; `None` if no call is a sign of one.
    fn until_suspicion(&mut self, now: Instant, suspect_after: Duration) -> Option<Duration> {
        // Nobody drives the runtime of a call beyond its limit.
        let limit = suspect_after.saturating_add(DETACHED_LIMIT);
        self.calls.retain(|_, call| now.saturating_duration_since(call.began) <= limit);
        let began = self.first_sign()?;
        Some(suspect_after.saturating_sub(now.saturating_duration_since(began)))
    }

    /// Returns when the oldest call began that is a sign of an outage if it takes long. The verifier
    /// has decided about nobody since: calls that are slow one by one are no outage.
    fn first_sign(&self) -> Option<Instant> {
        let signs = self.calls.values().filter(|call| call.is_sign).map(|call| call.began);
        signs.filter(|began| self.is_undecided_since(*began)).min()
    }

    fn is_undecided_since(&self, began: Instant) -> bool {
        self.last_decision.is_none_or(|last| last <= began)
    }
}

impl Watched {
    /// Makes the call a sign of an outage.
    pub(super) fn be_a_sign(&self) {
        if let Some(call) = self.breaker.lock().calls.get_mut(&self.number) {
            call.is_sign = true;
        }
    }
}

impl CircuitState {
    /// Records what the outcome of the call says about the verifier's backend. A failure says
    /// something if the fallback accepts the token (`sign` is when the call began), and if the
    /// verifier has decided about nobody since.
    pub(super) fn record(self, outcome: &Outcome, sign: Option<Instant>, now: Instant) {
        match (outcome, sign) {
            (Ok(verdict), _) if comes_from_the_backend(verdict) => self.record_success(now),
            (Err(error), _) if is_an_answer(error.kind()) => self.record_success(now),
            (Err(error), Some(began)) if is_outage(error.kind()) => {
                self.record_failure(error, began, now);
            }
            (Ok(_) | Err(_), _) => {}
        }
    }

    /// Ends a suspicion, and closes the breaker.
    fn record_success(self, now: Instant) {
        let (Self::Closed(call) | Self::HalfOpen(Probe(call)) | Self::Open(call)) = &self;
        let mut state = call.breaker.lock();
        state.last_decision = Some(now);
        let mut was_logged = std::mem::take(&mut state.is_suspicion_logged);
        let is_over = state.epoch == call.epoch && state.outage.take().is_some();
        if is_over {
            state.epoch += 1;
            was_logged |= std::mem::take(&mut state.is_outage_logged);
        }
        drop(state);
        call.breaker.changed.notify_waiters();
        if is_over || was_logged {
            call.breaker.publish_gauges();
        }
        if was_logged {
            tracing::info!("the verifier answers again; the fallback no longer decides");
        }
    }

    /// Opens the breaker.
    fn record_failure(self, error: &VerifyError, began: Instant, now: Instant) {
        let (Self::Closed(call) | Self::HalfOpen(Probe(call))) = &self else {
            // A call while the breaker is open does not postpone the next probe.
            return;
        };
        let mut state = call.breaker.lock();
        if state.epoch != call.epoch || !state.is_undecided_since(began) {
            return;
        }
        state.epoch += 1;
        let length = error.retry_after().unwrap_or_default().clamp(MIN_PAUSE, MAX_PAUSE);
        let pause = Pause { error: error.clone(), until: now + length, probed_until: None };
        let begins = state.outage.replace(pause).is_none();
        if begins {
            state.is_outage_logged = false;
        }
        let suppressed = if state.is_outage_logged {
            None
        } else {
            call.breaker.warn_limit.admit("outage", now)
        };
        state.is_outage_logged |= suppressed.is_some();
        drop(state);
        call.breaker.changed.notify_waiters();
        if begins {
            call.breaker.publish_gauges();
        }
        if let Some(suppressed) = suppressed {
            tracing::warn!(
                %error,
                suppressed,
                "the verifier is unavailable; the fallback decides until it answers again"
            );
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.breaker.lock().calls.remove(&self.number);
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let Call { breaker, epoch } = &self.0;
        let mut state = breaker.lock();
        if state.epoch == *epoch
            && let Some(pause) = &mut state.outage
        {
            pause.probed_until = None;
        }
    }
}
