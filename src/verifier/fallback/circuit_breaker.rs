//! Whether the verifier is down, and who finds out whether it is up again.

use std::{
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{error::VerifyError, lock::lock};

const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// So many at a time ask a verifier that is down, because the fallback cannot decide. Each may wait for a whole time limit and
/// holds a place among the verifications under way, all of which made-up key ids would take. A few are enough to see that some
/// of the verifier's backends answer.
const ASKING_ALL_THE_SAME: usize = 4;

#[derive(Debug)]
pub(super) struct CircuitBreaker {
    state: Mutex<State>,
    places: Semaphore,
}

#[derive(Debug, Default)]
struct State {
    /// Goes up when an outage begins, when a probe fails and when it ends. What was asked before such a moment says nothing about
    /// the time after it.
    epoch: u64,
    outage: Option<Pause>,
}

/// The verifier is left alone until then, and while somebody probes it.
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
        let left = self.until.saturating_duration_since(now).max(SHORTEST_PAUSE);
        self.error.clone().with_retry_after(left)
    }
}

/// What a caller is to do.
pub(super) enum Turn<'a> {
    /// The verifier works, as far as anybody knows.
    Closed(Asked<'a>),
    /// It may work again: this caller finds out, and nobody else meanwhile.
    HalfOpen(Probe<'a>),
    /// The fallback decides. What it cannot decide may be asked all the same.
    Open(Asked<'a>),
}

/// Somebody who asks the verifier, and when that was.
pub(super) struct Asked<'a> {
    outage: &'a CircuitBreaker,
    epoch: u64,
}

/// Gives the role back however the caller ends: it may go away, or panic.
pub(super) struct Probe<'a>(Asked<'a>);

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self { state: Mutex::default(), places: Semaphore::new(ASKING_ALL_THE_SAME) }
    }
}

impl CircuitBreaker {
    pub(super) fn turn(&self, now: Instant) -> Turn<'_> {
        let mut state = self.state();
        let asked = Asked { outage: self, epoch: state.epoch };
        match &mut state.outage {
            None => Turn::Closed(asked),
            Some(pause) if pause.holds(now) => Turn::Open(asked),
            Some(pause) => {
                pause.is_probed = true;
                Turn::HalfOpen(Probe(asked))
            }
        }
    }

    pub(super) fn is_paused(&self, now: Instant) -> bool {
        self.state().outage.as_ref().is_some_and(|pause| pause.holds(now))
    }

    /// A place for somebody who was told to leave the verifier alone, and has to ask it all the same; none is needed if the outage
    /// has ended since.
    ///
    /// An error if all are taken: that of the outage.
    pub(super) fn place(&self, now: Instant) -> Result<Option<SemaphorePermit<'_>>, VerifyError> {
        match &self.state().outage {
            None => Ok(None),
            Some(pause) => self.places.try_acquire().map(Some).map_err(|_| pause.error(now)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Turn<'_> {
    /// The verifier's backend has answered.
    pub(super) fn answered(self) {
        let (Self::Closed(asked) | Self::HalfOpen(Probe(asked)) | Self::Open(asked)) = &self;
        let mut state = asked.outage.state();
        if state.epoch != asked.epoch || state.outage.take().is_none() {
            return;
        }
        state.epoch += 1;
        drop(state);
        tracing::info!("the verifier answers again; the fallback is no longer asked");
    }

    /// The verifier's backend is not there.
    pub(super) fn failed(self, error: &VerifyError, now: Instant) {
        let (Self::Closed(asked) | Self::HalfOpen(Probe(asked))) = &self else {
            // The pause stays as it is, so that the next probe does not depend on what else is asked.
            return;
        };
        let mut state = asked.outage.state();
        if state.epoch != asked.epoch {
            return;
        }
        state.epoch += 1;
        let length = error.retry_after().unwrap_or_default().clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
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
        let Asked { outage, epoch } = self.0;
        let mut state = outage.state();
        if state.epoch == epoch
            && let Some(pause) = &mut state.outage
        {
            pause.is_probed = false;
        }
    }
}
