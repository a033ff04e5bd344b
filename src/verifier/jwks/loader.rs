//! The keys at hand: loaded when first needed, refreshed on a period and for an unknown key id, by one fetch for all who wait.

mod cooldown;
mod state;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, sync::Semaphore, task::JoinHandle};

use self::state::{FetchTrigger, Outcome, State, waited};
use super::{
    algorithm::Algorithm,
    key_set::KeySet,
    metrics::{Counters, JwksMetrics},
    source::Source,
};
use crate::{
    clock::Clock,
    error::{VerifyError, VerifyErrorKind},
};

/// After a failed fetch callers get that failure for so long, so that an issuer that is down is not hammered.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// A tenth, either way: the replicas of a service do not refresh together.
const JITTER: f64 = 0.1;

/// Beyond this, which means never, times overflow.
const LONGEST_PERIOD: Duration = Duration::from_secs(u32::MAX as u64);

/// So many tokens with an unknown key id wait for a fetch at once. Each holds a place among the verifications under way, which
/// made-up key ids must not take from tokens whose key is known.
const WAITING_FOR_NEWER: usize = 16;

/// What a fetch brings.
pub(super) struct Loaded {
    pub(super) keys: KeySet,
    /// The issuer that the discovery document names, where it was asked for.
    pub(super) issuer: Option<Arc<str>>,
}

/// Keys, and which fetch brought them.
pub(super) struct KeySnapshot {
    pub(super) loaded: Loaded,
    fetch: u64,
}

/// When a token came: after so many fetches had begun.
#[derive(Clone, Copy)]
pub(super) struct FetchSequence(u64);

impl KeySnapshot {
    /// Whether the keys were fetched after a token came, so that a key that is not among them is not known to the issuer.
    pub(super) fn are_newer_than(&self, FetchSequence(arrival): FetchSequence) -> bool {
        self.fetch > arrival
    }
}

/// How the keys are kept fresh.
#[derive(Clone, Copy, Debug)]
pub(super) struct Freshness {
    pub(super) period: Duration,
    pub(super) cooldown: Duration,
    pub(super) fetch_timeout: Duration,
}

pub(super) struct Loader {
    state: Arc<State>,
    /// Ended with the last handle.
    background: Mutex<Option<EndOnDrop>>,
    places: Semaphore,
}

struct EndOnDrop(JoinHandle<()>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Loader {
    pub(super) fn new(
        source: Source,
        algorithms: Arc<[Algorithm]>,
        freshness: Freshness,
        clock: Clock,
    ) -> Self {
        let state = State::new(source, algorithms, freshness, clock);
        Self {
            state: Arc::new(state),
            background: Mutex::default(),
            places: Semaphore::new(WAITING_FOR_NEWER),
        }
    }

    /// With keys that never change.
    pub(super) fn fixed(
        keys: KeySet,
        algorithms: Arc<[Algorithm]>,
        freshness: Freshness,
        clock: Clock,
    ) -> Self {
        let loader = Self::new(Source::Fixed, algorithms, freshness, clock);
        loader
            .state
            .current
            .store(Some(Arc::new(KeySnapshot { loaded: Loaded { keys, issuer: None }, fetch: 0 })));
        loader
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.state.clock
    }

    pub(super) fn source(&self) -> &Source {
        &self.state.source
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.state.counters
    }

    pub(super) fn metrics(&self) -> JwksMetrics {
        let keys =
            self.state.current.load().as_ref().map_or(0, |snapshot| snapshot.loaded.keys.len());
        self.state.counters.read(keys)
    }

    /// The keys at hand.
    pub(super) fn snapshot(&self) -> Option<Arc<KeySnapshot>> {
        let snapshot = self.state.current.load_full();
        if snapshot.is_some() {
            self.keep_background();
        }
        snapshot
    }

    /// To be taken before the keys are looked at that are to be [newer](KeySnapshot::are_newer_than).
    pub(super) fn arrival(&self) -> FetchSequence {
        FetchSequence(self.state.arrival())
    }

    /// The keys at hand, or the first ones.
    pub(super) async fn load(&self) -> Result<Arc<KeySnapshot>, VerifyError> {
        if let Some((pause, error)) = self.state.recent_failure() {
            return Err(error.with_retry_after(pause));
        }
        self.refresh().await?;
        self.loaded()
    }

    /// Newer keys, for a key id that is unknown, but not always newer than the token: a fetch that is under way is joined. `None`
    /// if [`is_known_missing`](Self::is_known_missing).
    ///
    /// Within the cooldown it is an error, and not a refusal: the key may have been added since.
    pub(super) async fn newer(
        &self,
        key_id: &str,
        arrival: FetchSequence,
    ) -> Result<Option<Arc<KeySnapshot>>, VerifyError> {
        if self.is_known_missing(key_id) {
            return Ok(None);
        }
        let Ok(_place) = self.places.try_acquire() else {
            return Err(self.state.undecided(Duration::from_secs(1)));
        };
        let outcome = self.state.join_fetch(FetchTrigger::Token { key_id, arrival: arrival.0 })?;
        self.keep_background();
        waited(outcome).await?;
        self.loaded().map(Some)
    }

    /// Whether the issuer is known not to have this key: there is nowhere to fetch it from, or that was tried within the
    /// cooldown.
    pub(super) fn is_known_missing(&self, key_id: &str) -> bool {
        // A refresh of ours may have brought it since.
        let is_at_hand = || {
            self.state
                .current
                .load()
                .as_ref()
                .is_some_and(|snapshot| snapshot.loaded.keys.contains(key_id))
        };
        matches!(self.state.source, Source::Fixed)
            || self.state.is_known_missing(key_id) && !is_at_hand()
    }

    /// Fetches, or waits for the fetch that is under way.
    pub(super) async fn refresh(&self) -> Outcome {
        if matches!(self.state.source, Source::Fixed) {
            return Ok(());
        }
        let outcome = self.state.join_fetch(FetchTrigger::Internal)?;
        self.keep_background();
        waited(outcome).await
    }

    #[cfg(test)]
    pub(super) fn background_has_ended(&self) -> bool {
        self.background.lock().unwrap().as_ref().is_none_or(|task| task.0.is_finished())
    }

    fn loaded(&self) -> Result<Arc<KeySnapshot>, VerifyError> {
        self.snapshot().ok_or_else(|| {
            VerifyError::new(VerifyErrorKind::Aborted, "the issuer's keys are not loaded")
        })
    }

    /// Starts the background refresh: only now, because a constructor may run outside of a runtime, and again where it
    /// ended with a runtime of which it was, because without it a key that was removed would verify for good.
    fn keep_background(&self) {
        if matches!(self.state.source, Source::Fixed) {
            return;
        }
        let mut background = self.background.lock().unwrap_or_else(PoisonError::into_inner);
        if background.as_ref().is_none_or(|task| task.0.is_finished())
            && let Ok(runtime) = Handle::try_current()
        {
            *background = Some(EndOnDrop(runtime.spawn(keep_fresh(Arc::downgrade(&self.state)))));
        }
    }
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader").field("source", &self.state.source).finish_non_exhaustive()
    }
}

async fn keep_fresh(state: Weak<State>) {
    let mut age = state.upgrade().and_then(|state| state.age()).unwrap_or_default();
    loop {
        let Some((clock, period)) = state
            .upgrade()
            .map(|state| (state.clock.clone(), state.freshness.period.min(LONGEST_PERIOD)))
        else {
            return;
        };
        let jittered = period.mul_f64(1.0 - JITTER + 2.0 * JITTER * fastrand::f64());
        // Where an earlier task ended with its runtime, the keys have aged meanwhile. After a failure a whole period passes.
        clock.sleep(jittered.saturating_sub(std::mem::take(&mut age))).await;
        let Some(state) = state.upgrade() else { return };
        if let Ok(outcome) = state.join_fetch(FetchTrigger::Internal) {
            drop(state);
            // A failure has been logged, and the keys at hand stay.
            let _ = waited(outcome).await;
        }
    }
}

/// What is left of a pause.
fn left(since: Instant, pause: Duration, now: Instant) -> Option<Duration> {
    let passed = now.saturating_duration_since(since);
    pause.checked_sub(passed).filter(|left| !left.is_zero())
}
