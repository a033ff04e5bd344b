//! The keys at hand: loaded when first needed, refreshed on a period and for an unknown key id, by one fetch for all who wait.

use std::{
    fmt,
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, watch},
    task::JoinHandle,
};

use super::{algorithm::Algorithm, key_set::KeySet, source::Source};
use crate::{
    clock::Clock,
    error::{VerifyError, VerifyErrorKind},
    unwind::{Panicked, poll_caught},
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

/// Keys that a refresh has brought.
pub(super) struct Newer {
    pub(super) loaded: Arc<Loaded>,
    /// Whether the fetch began after it was asked for, so that what is not in these keys is not known to the issuer.
    pub(super) began_now: bool,
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

struct State {
    source: Source,
    algorithms: Arc<[Algorithm]>,
    freshness: Freshness,
    clock: Clock,
    current: ArcSwapOption<Loaded>,
    fetching: Mutex<Fetching>,
}

#[derive(Default)]
struct Fetching {
    under_way: Option<watch::Receiver<Option<Outcome>>>,
    last: Option<(Instant, Outcome)>,
}

type Outcome = Result<(), VerifyError>;

struct EndOnDrop(JoinHandle<()>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Loader {
    pub(super) fn new(source: Source, algorithms: Arc<[Algorithm]>, freshness: Freshness, clock: Clock) -> Self {
        let (current, fetching) = (ArcSwapOption::empty(), Mutex::default());
        let state = State { source, algorithms, freshness, clock, current, fetching };
        Self { state: Arc::new(state), background: Mutex::default(), places: Semaphore::new(WAITING_FOR_NEWER) }
    }

    /// With keys that never change.
    pub(super) fn fixed(keys: KeySet, algorithms: Arc<[Algorithm]>, freshness: Freshness, clock: Clock) -> Self {
        let loader = Self::new(Source::Fixed, algorithms, freshness, clock);
        loader.state.current.store(Some(Arc::new(Loaded { keys, issuer: None })));
        loader
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.state.clock
    }

    pub(super) fn source(&self) -> &Source {
        &self.state.source
    }

    /// The keys at hand.
    pub(super) fn loaded(&self) -> Option<Arc<Loaded>> {
        let loaded = self.state.current.load_full();
        if loaded.is_some() {
            self.keep_background();
        }
        loaded
    }

    /// The keys at hand, or the first ones.
    pub(super) async fn load(&self) -> Result<Arc<Loaded>, VerifyError> {
        if let Some((pause, error)) = self.state.recent_failure() {
            return Err(error.with_retry_after(pause));
        }
        self.refresh().await?;
        self.loaded().ok_or_else(|| VerifyError::new(VerifyErrorKind::Aborted, "the issuer's keys are not loaded"))
    }

    /// Newer keys, for a key id that is unknown; `None` if there is nowhere to fetch from.
    ///
    /// Within the cooldown after a fetch it is an error, and not a refusal: the key may have been added since.
    pub(super) async fn newer(&self) -> Result<Option<Newer>, VerifyError> {
        if matches!(self.state.source, Source::Fixed) {
            return Ok(None);
        }
        let Ok(_place) = self.places.try_acquire() else { return Err(within_cooldown(Duration::from_secs(1))) };
        let (outcome, began_now) = self.state.join_fetch(self.state.freshness.cooldown)?;
        self.keep_background();
        waited(outcome).await?;
        let keys = self.loaded();
        Ok(keys.map(|loaded| Newer { loaded, began_now }))
    }

    /// For a key id that is unknown, but may not be in a moment.
    pub(super) fn within_cooldown(&self) -> VerifyError {
        within_cooldown(self.state.cooldown_left().unwrap_or_default())
    }

    /// Fetches, or waits for the fetch that is under way.
    pub(super) async fn refresh(&self) -> Outcome {
        if matches!(self.state.source, Source::Fixed) {
            return Ok(());
        }
        let (outcome, _) = self.state.join_fetch(Duration::ZERO)?;
        self.keep_background();
        waited(outcome).await
    }

    #[cfg(test)]
    pub(super) fn background_has_ended(&self) -> bool {
        self.background.lock().unwrap().as_ref().is_none_or(|task| task.0.is_finished())
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

impl State {
    /// A receiver for the outcome of the one fetch that is under way, and whether it has begun just now. It runs in a task of
    /// its own, so that a caller that goes away ends nothing, and no lock is held while it runs.
    ///
    /// An error if the last one ended less than `cooldown` ago.
    fn join_fetch(
        self: &Arc<Self>,
        cooldown: Duration,
    ) -> Result<(watch::Receiver<Option<Outcome>>, bool), VerifyError> {
        let mut fetching = self.fetching();
        if let Some(outcome) = &fetching.under_way {
            return Ok((outcome.clone(), false));
        }
        // Under the lock: of many who find the cooldown over, one fetches.
        if let Some(left) = fetching.last.as_ref().and_then(|(at, _)| self.left(*at, cooldown)) {
            return Err(within_cooldown(left));
        }
        let runtime = Handle::try_current().map_err(|_| {
            VerifyError::new(VerifyErrorKind::Aborted, "fetching the issuer's keys needs a Tokio runtime")
        })?;
        let (sender, receiver) = watch::channel(None);
        fetching.under_way = Some(receiver.clone());
        // A runtime that is being shut down drops the task within `spawn`, and the drop takes the lock.
        drop(fetching);
        let flight = Flight { state: Arc::clone(self), outcome: sender };
        runtime.spawn(flight.run());
        Ok((receiver, true))
    }

    async fn fetch(&self) -> Outcome {
        let limit = self.freshness.fetch_timeout;
        let fetched = self.clock.timeout(limit, self.source.fetch(&self.algorithms)).await.unwrap_or_else(|| {
            let message = format!("{}: no answer within {limit:?}", self.source);
            Err(VerifyError::new(VerifyErrorKind::Timeout, message))
        });
        match fetched {
            Ok(loaded) => {
                if loaded.keys.len() == 0 {
                    tracing::warn!(source = %self.source, "the issuer's key set has no usable key");
                }
                tracing::debug!(source = %self.source, keys = loaded.keys.len(), "the issuer's keys are loaded");
                self.current.store(Some(Arc::new(loaded)));
                Ok(())
            }
            Err(error) => {
                tracing::warn!(source = %self.source, %error, "the issuer's keys could not be fetched; those at hand stay");
                Err(error)
            }
        }
    }

    fn recent_failure(&self) -> Option<(Duration, VerifyError)> {
        match &self.fetching().last {
            Some((at, Err(error))) => Some((self.left(*at, PAUSE_AFTER_FAILURE)?, error.clone())),
            _ => None,
        }
    }

    fn cooldown_left(&self) -> Option<Duration> {
        let fetching = self.fetching();
        if fetching.under_way.is_some() {
            return None;
        }
        let (at, _) = fetching.last.as_ref()?;
        self.left(*at, self.freshness.cooldown)
    }

    fn left(&self, since: Instant, pause: Duration) -> Option<Duration> {
        let passed = self.clock.monotonic().saturating_duration_since(since);
        pause.checked_sub(passed).filter(|left| !left.is_zero())
    }

    fn fetching(&self) -> std::sync::MutexGuard<'_, Fetching> {
        // Nothing that can panic runs under the lock.
        self.fetching.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The fetch under way. However it ends, its followers are told and the next one may begin.
struct Flight {
    state: Arc<State>,
    outcome: watch::Sender<Option<Outcome>>,
}

impl Flight {
    async fn run(self) {
        let mut fetch = pin!(self.state.fetch());
        let outcome = poll_fn(|cx| poll_caught(fetch.as_mut(), cx)).await;
        self.end(outcome.unwrap_or_else(|Panicked| Err(aborted())));
    }

    fn end(&self, outcome: Outcome) {
        let mut fetching = self.state.fetching();
        fetching.under_way = None;
        fetching.last = Some((self.state.clock.monotonic(), outcome.clone()));
        self.outcome.send_replace(Some(outcome));
    }
}

impl Drop for Flight {
    /// A task that is ended with its runtime never came to its `end`.
    fn drop(&mut self) {
        let ended = self.outcome.borrow().is_some();
        if !ended {
            self.state.fetching().under_way = None;
        }
    }
}

async fn waited(mut outcome: watch::Receiver<Option<Outcome>>) -> Outcome {
    match outcome.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or_else(|| Err(aborted())),
        Err(_) => Err(aborted()),
    }
}

fn within_cooldown(left: Duration) -> VerifyError {
    let message = "the token's key id is unknown, and the issuer's keys were fetched a moment ago";
    VerifyError::new(VerifyErrorKind::RateLimited, message).with_retry_after(left)
}

fn aborted() -> VerifyError {
    VerifyError::new(VerifyErrorKind::Aborted, "fetching the issuer's keys was ended before it was done")
}

async fn keep_fresh(state: Weak<State>) {
    loop {
        let Some((clock, period)) =
            state.upgrade().map(|state| (state.clock.clone(), state.freshness.period.min(LONGEST_PERIOD)))
        else {
            return;
        };
        clock.sleep(period.mul_f64(1.0 - JITTER + 2.0 * JITTER * fastrand::f64())).await;
        let Some(state) = state.upgrade() else { return };
        if let Ok((outcome, _)) = state.join_fetch(Duration::ZERO) {
            drop(state);
            // A failure has been logged, and the keys at hand stay.
            let _ = waited(outcome).await;
        }
    }
}
