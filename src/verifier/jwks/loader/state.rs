//! The state that all handles share, and the one fetch that may be under way.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use tokio::{runtime::Handle, sync::watch};

use super::{Freshness, KeySnapshot, PAUSE_AFTER_FAILURE, cooldown::Cooldown, left};
use crate::{
    catch_panic::{Panicked, poll_caught},
    clock::Clock,
    error::{VerifyError, VerifyErrorKind},
    verifier::jwks::{algorithm::Algorithm, metrics::Counters, source::Source},
};

pub(super) type Outcome = Result<(), VerifyError>;

pub(super) struct State {
    pub(super) source: Source,
    pub(super) algorithms: Arc<[Algorithm]>,
    pub(super) freshness: Freshness,
    pub(super) clock: Clock,
    pub(super) current: ArcSwapOption<KeySnapshot>,
    pub(super) counters: Counters,
    fetching: Mutex<Fetching>,
}

struct Fetching {
    /// How many fetches have begun, which numbers them.
    begun: u64,
    under_way: Option<watch::Receiver<Option<Outcome>>>,
    last: Option<(Instant, Outcome)>,
    last_success: Option<Instant>,
    cooldown: Cooldown,
}

/// On whose behalf keys are fetched.
#[derive(Clone, Copy)]
pub(super) enum FetchTrigger<'a> {
    /// Our own: the first load, a period that is over, an operator.
    Internal,
    /// A token with an unknown key id, which came after so many fetches had begun.
    Token { key_id: &'a str, arrival: u64 },
}

impl State {
    pub(super) fn new(
        source: Source,
        algorithms: Arc<[Algorithm]>,
        freshness: Freshness,
        clock: Clock,
    ) -> Self {
        let fetching = Fetching {
            begun: 0,
            under_way: None,
            last: None,
            last_success: None,
            cooldown: Cooldown::new(freshness.cooldown),
        };
        let (current, counters) = (ArcSwapOption::empty(), Counters::default());
        Self {
            source,
            algorithms,
            freshness,
            clock,
            current,
            counters,
            fetching: Mutex::new(fetching),
        }
    }

    /// How many fetches have begun by now. Only a later one can say that the issuer does not know a key.
    pub(super) fn arrival(&self) -> u64 {
        self.fetching().begun
    }

    /// A receiver for the outcome of the one fetch that is under way. It runs in a task of its own, so that a caller that goes
    /// away ends nothing, and no lock is held while it runs.
    ///
    /// An error if a token would have to cause one, and the last one that a token has caused ended a moment ago.
    pub(super) fn join_fetch(
        self: &Arc<Self>,
        trigger: FetchTrigger<'_>,
    ) -> Result<watch::Receiver<Option<Outcome>>, VerifyError> {
        let mut fetching = self.fetching();
        if let Some(outcome) = fetching.under_way.clone() {
            if let FetchTrigger::Token { key_id, arrival } = trigger {
                fetching.cooldown.join(arrival, key_id);
            }
            return Ok(outcome);
        }
        let runtime = Handle::try_current().map_err(|_| {
            VerifyError::new(
                VerifyErrorKind::Aborted,
                "fetching the issuer's keys needs a Tokio runtime",
            )
        })?;
        let number = fetching.begun.saturating_add(1);
        if let FetchTrigger::Token { key_id, .. } = trigger {
            // Under the lock: of many who find the cooldown over, one fetches.
            if let Some(left) = fetching.cooldown.left(self.clock.monotonic()) {
                return Err(self.undecided(left));
            }
            fetching.cooldown.begin(number, key_id);
        }
        fetching.begun = number;
        let (sender, receiver) = watch::channel(None);
        fetching.under_way = Some(receiver.clone());
        // A runtime that is being shut down drops the task within `spawn`, and the drop takes the lock.
        drop(fetching);
        self.counters.fetches.increment();
        let flight = Flight { state: Arc::clone(self), number, outcome: sender };
        runtime.spawn(flight.run());
        Ok(receiver)
    }

    /// For a key id that is unknown, but may not be in a moment.
    pub(super) fn undecided(&self, left: Duration) -> VerifyError {
        self.counters.within_cooldown.increment();
        let message =
            "the token's key id is unknown, and the issuer's keys were fetched a moment ago";
        VerifyError::new(VerifyErrorKind::Inconclusive, message).with_retry_after(left)
    }

    pub(super) fn is_known_missing(&self, key_id: &str) -> bool {
        self.fetching().cooldown.is_known_missing(key_id, self.clock.monotonic())
    }

    pub(super) fn recent_failure(&self) -> Option<(Duration, VerifyError)> {
        match &self.fetching().last {
            Some((at, Err(error))) => {
                Some((left(*at, PAUSE_AFTER_FAILURE, self.clock.monotonic())?, error.clone()))
            }
            _ => None,
        }
    }

    /// For how long keys have been at hand that nobody has renewed.
    pub(super) fn age(&self) -> Option<Duration> {
        let fetched = self.fetching().last_success?;
        Some(self.clock.monotonic().saturating_duration_since(fetched))
    }

    async fn fetch(&self, number: u64) -> Outcome {
        let limit = self.freshness.fetch_timeout;
        let fetched =
            self.clock.timeout(limit, self.source.fetch(&self.algorithms)).await.unwrap_or_else(
                || {
                    let message = format!("{}: no answer within {limit:?}", self.source);
                    Err(VerifyError::new(VerifyErrorKind::Timeout, message))
                },
            );
        match fetched {
            Ok(loaded) => {
                if loaded.keys.len() == 0 {
                    tracing::warn!(source = %self.source, "the issuer's key set has no usable key");
                }
                tracing::debug!(source = %self.source, keys = loaded.keys.len(), "the issuer's keys are loaded");
                self.current.store(Some(Arc::new(KeySnapshot { loaded, fetch: number })));
                Ok(())
            }
            Err(error) => {
                tracing::warn!(source = %self.source, %error, "the issuer's keys could not be fetched; those at hand stay");
                Err(error)
            }
        }
    }

    fn fetching(&self) -> MutexGuard<'_, Fetching> {
        // Nothing that can panic runs under the lock.
        self.fetching.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The fetch under way. However it ends, its followers are told and the next one may begin.
struct Flight {
    state: Arc<State>,
    number: u64,
    outcome: watch::Sender<Option<Outcome>>,
}

impl Flight {
    async fn run(self) {
        let mut fetch = pin!(self.state.fetch(self.number));
        let outcome = poll_fn(|cx| poll_caught(fetch.as_mut(), cx)).await;
        self.end(outcome.unwrap_or_else(|Panicked| Err(aborted())));
    }

    fn end(&self, outcome: Outcome) {
        let State { clock, current, counters, .. } = &*self.state;
        if outcome.is_err() {
            counters.failed_fetches.increment();
        }
        let (now, keys) = (clock.monotonic(), current.load_full());
        let brought = keys.filter(|_| outcome.is_ok());
        let mut fetching = self.state.fetching();
        fetching.under_way = None;
        fetching
            .cooldown
            .end(now, brought.map(|keys| move |key_id: &str| keys.loaded.keys.contains(key_id)));
        fetching.last = Some((now, outcome.clone()));
        if outcome.is_ok() {
            fetching.last_success = Some(now);
        }
        drop(fetching);
        self.outcome.send_replace(Some(outcome));
    }
}

impl Drop for Flight {
    /// A task that is ended with its runtime never came to its `end`.
    fn drop(&mut self) {
        let ended = self.outcome.borrow().is_some();
        if !ended {
            self.state.counters.failed_fetches.increment();
            let now = self.state.clock.monotonic();
            let mut fetching = self.state.fetching();
            fetching.under_way = None;
            fetching.cooldown.end(now, None::<fn(&str) -> bool>);
        }
    }
}

pub(super) async fn waited(mut outcome: watch::Receiver<Option<Outcome>>) -> Outcome {
    match outcome.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or_else(|| Err(aborted())),
        Err(_) => Err(aborted()),
    }
}

fn aborted() -> VerifyError {
    VerifyError::new(
        VerifyErrorKind::Aborted,
        "fetching the issuer's keys was ended before it was done",
    )
}
