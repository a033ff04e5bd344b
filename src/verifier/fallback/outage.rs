//! Whether the verifier is down, and who finds out whether it is up again.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::error::VerifyError;

const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Outage(Mutex<State>);

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
    until: Instant,
    is_probed: bool,
}

impl Pause {
    fn holds(&self, now: Instant) -> bool {
        self.is_probed || now < self.until
    }
}

/// What a caller is to do.
pub(super) enum Turn<'a> {
    /// The verifier works, as far as anybody knows.
    Ask(Asked<'a>),
    /// It may work again: this caller finds out, and nobody else meanwhile.
    Probe(Probe<'a>),
    /// The fallback decides. What it cannot decide may be asked all the same.
    Paused(Asked<'a>),
}

/// Somebody who asks the verifier, and when that was.
pub(super) struct Asked<'a> {
    outage: &'a Outage,
    epoch: u64,
}

/// Gives the role back however the caller ends: it may go away, or panic.
pub(super) struct Probe<'a>(Asked<'a>);

impl Outage {
    pub(super) fn turn(&self, now: Instant) -> Turn<'_> {
        let mut state = self.state();
        let asked = Asked { outage: self, epoch: state.epoch };
        match &mut state.outage {
            None => Turn::Ask(asked),
            Some(pause) if pause.holds(now) => Turn::Paused(asked),
            Some(pause) => {
                pause.is_probed = true;
                Turn::Probe(Probe(asked))
            }
        }
    }

    pub(super) fn is_paused(&self, now: Instant) -> bool {
        self.state().outage.as_ref().is_some_and(|pause| pause.holds(now))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// The verifier's backend has answered.
    pub(super) fn answered(self) {
        let (Self::Ask(asked) | Self::Probe(Probe(asked)) | Self::Paused(asked)) = &self;
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
        let (Self::Ask(asked) | Self::Probe(Probe(asked))) = &self else {
            // The pause stays as it is, so that the next probe does not depend on what else is asked.
            return;
        };
        let mut state = asked.outage.state();
        if state.epoch != asked.epoch {
            return;
        }
        state.epoch += 1;
        let length = error.retry_after().unwrap_or_default().clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        let began = state.outage.replace(Pause { until: now + length, is_probed: false }).is_none();
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
