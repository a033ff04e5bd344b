//! The loader of an issuer's keys: loads them on first use, and refreshes them periodically and for
//! unknown key ids. Concurrent callers share one fetch.

mod cooldown;
mod state;
mod watchdog;

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{runtime::Handle, sync::Semaphore};

pub(super) use self::state::Freshness;
use self::{
    cooldown::MAX_WAITING,
    state::{FetchTrigger, JITTER, MAX_PERIOD, Outcome, State},
};
use super::{
    algorithm::Algorithm,
    key_set::KeySet,
    key_snapshot::{FetchSequence, KeySnapshot},
    metrics::{Counters, JwksMetrics},
    source::Source,
};
use crate::{
    background_task::{BackgroundTask, RunningGuard},
    backoff,
    clock::Clock,
    error::{VerifyError, VerifyErrorKind},
    readiness::Need,
};

/// Refresh periods without success after which keys count as overdue.
const OVERDUE_AFTER: u32 = 3;

pub(super) struct Loader {
    state: Arc<State>,
    /// Refreshes the keys periodically.
    background: BackgroundTask,
    /// For tokens with an unknown key id that wait for a fetch.
    waiting: Semaphore,
}

impl Loader {
    pub(super) fn new(
        source: Source,
        algorithms: Arc<[Algorithm]>,
        freshness: Freshness,
        clock: Clock,
    ) -> Self {
        Self {
            state: Arc::new(State::new(source, algorithms, freshness, clock)),
            background: BackgroundTask::default(),
            waiting: Semaphore::new(MAX_WAITING),
        }
    }

    /// Returns a loader that has the keys of `source` already.
    pub(super) fn with_keys(
        source: Source,
        keys: KeySet,
        algorithms: Arc<[Algorithm]>,
        freshness: Freshness,
        clock: Clock,
    ) -> Self {
        let loader = Self::new(source, algorithms, freshness, clock);
        loader.state.start_with(keys);
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
        let current = self.state.current.load();
        let keys = current.as_ref().map_or(0, |snapshot| snapshot.loaded.keys.len());
        self.state.counters.read(keys)
    }

    /// Returns the current keys, without I/O and without a lock; `None` if they are too old.
    pub(super) fn snapshot(&self) -> Option<Arc<KeySnapshot>> {
        let snapshot = self.state.current.load_full()?;
        self.ensure_background_refresh();
        let State { freshness, clock, .. } = &*self.state;
        let is_young = freshness.max_key_age.is_none_or(|limit| {
            clock.monotonic().saturating_duration_since(snapshot.began) <= limit
        });
        is_young.then_some(snapshot)
    }

    /// Returns the arrival of a token that arrives now. Must be called before its key is looked up.
    pub(super) fn arrival(&self) -> FetchSequence {
        self.state.arrival()
    }

    /// Loads the first keys, or new ones if the current ones are too old, or returns the error of
    /// an attempt that has just failed.
    pub(super) async fn load(&self) -> Result<Arc<KeySnapshot>, VerifyError> {
        if let Some((pause, error)) = self.state.recent_failure() {
            return Err(self.without_keys(error).with_retry_after(pause));
        }
        self.refresh().await.map_err(|error| self.without_keys(error))?;
        self.loaded()
    }

    /// Returns the error of a verification whose keys cannot be fetched. That the last ones are too
    /// old is an outage, whatever the reason of the failed fetch.
    fn without_keys(&self, error: VerifyError) -> VerifyError {
        if self.state.current.load().is_none() {
            return error;
        }
        let message = format!("the issuer's keys are older than max_key_age [{error}]");
        VerifyError::new(VerifyErrorKind::Unavailable, message)
    }

    /// Begins to load the first keys, unless they are loaded, or an attempt has just failed.
    pub(super) fn warm_up(&self) {
        if self.snapshot().is_none()
            && self.state.recent_failure().is_none()
            && self.state.join_fetch(FetchTrigger::Internal).is_ok()
        {
            self.ensure_background_refresh();
        }
    }

    /// Ends the periodic refresh, until the keys are used again, and the fetch under way.
    pub(super) fn stop_background_tasks(&self) {
        self.background.stop();
        self.state.fetches.abort_all();
    }

    /// Returns keys that are newer than the current ones, for an unknown key id; `None` if the key
    /// [is known to be missing](Self::is_known_missing). A fetch under way is joined, so the keys
    /// are not always newer than the token.
    ///
    /// Within the cooldown this is an error, and not a rejection: the issuer may have added the key
    /// since the last fetch.
    pub(super) async fn newer(
        &self,
        key_id: &str,
        arrival: FetchSequence,
    ) -> Result<Option<Arc<KeySnapshot>>, VerifyError> {
        if self.is_known_missing(key_id) {
            return Ok(None);
        }
        let Ok(_permit) = self.waiting.try_acquire() else {
            return Err(self.state.undecided(Duration::from_secs(1)));
        };
        let fetch = self.state.join_fetch(FetchTrigger::Token { key_id, arrival })?;
        self.ensure_background_refresh();
        self.state.outcome_of(fetch).await?;
        self.loaded().map(Some)
    }

    /// Whether the issuer is known not to have this key: the keys never change, or a fetch within
    /// the cooldown did not bring it.
    pub(super) fn is_known_missing(&self, key_id: &str) -> bool {
        // A periodic refresh may have brought the key since.
        let is_loaded = || {
            let current = self.state.current.load();
            current.as_ref().is_some_and(|snapshot| snapshot.loaded.keys.contains(key_id))
        };
        matches!(self.state.source, Source::Fixed)
            || self.state.is_known_missing(key_id) && !is_loaded()
    }

    /// Fetches the keys, or joins the fetch under way.
    pub(super) async fn refresh(&self) -> Outcome {
        if matches!(self.state.source, Source::Fixed) {
            return Ok(());
        }
        let fetch = self.state.join_fetch(FetchTrigger::Internal)?;
        self.ensure_background_refresh();
        self.state.outcome_of(fetch).await
    }

    /// Checks the keys, and loads them if there are none.
    pub(super) async fn check(&self) -> Need {
        const NAME: &str = "keys";
        let snapshot = match self.snapshot() {
            Some(snapshot) => snapshot,
            None => match self.load().await {
                Ok(snapshot) => snapshot,
                Err(error) => return not_loaded(NAME, &self.state.source, error.kind()),
            },
        };
        let keys = snapshot.loaded.keys.len();
        if keys == 0 {
            let remedy = "look at the issuer's key set and at the allowed algorithms; the log says \
                          which keys are skipped";
            return Need::missing(NAME, "the issuer's key set has no usable key", remedy);
        }
        let Some(age) = self.state.age() else { return Need::met(NAME, format!("{keys}, given")) };
        let detail = format!("{keys}, loaded {} s ago", age.as_secs());
        if age <= self.state.freshness.period.saturating_mul(OVERDUE_AFTER) {
            Need::met(NAME, detail)
        } else {
            let remedy = "new keys are unknown and removed ones still accepted; the log says why \
                          fetching fails";
            Need::unknown(NAME, detail, remedy)
        }
    }

    #[cfg(test)]
    pub(super) fn is_refreshed_in_background(&self) -> bool {
        self.background.is_running()
    }

    fn loaded(&self) -> Result<Arc<KeySnapshot>, VerifyError> {
        self.snapshot().ok_or_else(|| {
            VerifyError::new(VerifyErrorKind::Aborted, "the issuer's keys are not loaded")
        })
    }

    /// Starts the background refresh if it does not run, and replaces it if it has stopped with a
    /// runtime that nothing drives any more. Without it, a key that the issuer has removed would
    /// verify tokens indefinitely.
    fn ensure_background_refresh(&self) {
        let State { source, watchdog, .. } = &*self.state;
        if matches!(source, Source::Fixed) {
            return;
        }
        let running = self.background.running();
        if running != 0 && !watchdog.has_expired() {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        let state = Arc::downgrade(&self.state);
        let refresh = |running| refresh_periodically(state, running);
        if running == 0 {
            watchdog.reset();
            self.background.start(&runtime, refresh);
        } else if watchdog.reset_if_expired() && self.background.replace(running, &runtime, refresh)
        {
            tracing::warn!(
                %source,
                "the task that refreshes the issuer's keys does not answer; starting another one"
            );
        }
    }
}

/// Returns the need for keys that could not be loaded. Not with the error's text: that of a user's
/// service could quote its request.
fn not_loaded(name: &str, source: &Source, kind: VerifyErrorKind) -> Need {
    let detail = format!("cannot be loaded from {source}: {}", kind.as_str());
    match kind {
        VerifyErrorKind::Forbidden => Need::missing(
            name,
            detail,
            "bind the ClusterRole `system:service-account-issuer-discovery`",
        ),
        VerifyErrorKind::Unauthenticated => {
            Need::missing(name, detail, "look at the token that this service's client sends")
        }
        _ => Need::unknown(name, detail, "the log says why"),
    }
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader").field("source", &self.state.source).finish_non_exhaustive()
    }
}

async fn refresh_periodically(state: Weak<State>, _running: RunningGuard) {
    let mut age = state.upgrade().and_then(|state| state.age()).unwrap_or_default();
    loop {
        let Some((clock, period)) = state
            .upgrade()
            .map(|state| (state.clock.clone(), state.freshness.period.min(MAX_PERIOD)))
        else {
            return;
        };
        let period = backoff::jittered(period, 1.0 - JITTER..1.0 + JITTER);
        // The keys have aged if an earlier task ended with its runtime. After a failed fetch, a
        // whole period passes.
        clock.sleep(period.saturating_sub(std::mem::take(&mut age))).await;
        let Some(state) = state.upgrade() else { return };
        if let Ok(fetch) = state.join_fetch(FetchTrigger::Internal) {
            // A failure is logged by the fetch, and the current keys stay.
            let _ = state.outcome_of(fetch).await;
        }
    }
}
