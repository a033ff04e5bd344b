//! The loader's shared state, and the one fetch that may be under way.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use tokio::runtime::Handle;
use tracing::Instrument;

use super::{
    cooldown::{Cooldown, remaining},
    watchdog::Watchdog,
};
use crate::{
    background_task::Tasks,
    catch_panic::{Panicked, poll_caught},
    clock::Clock,
    error::{VerifyError, VerifyErrorKind},
    lock::lock,
    single_flight::{self, Flights, Joined},
    telemetry::{self, Gauges, Measure},
    verifier::jwks::{
        algorithm::Algorithm,
        key_set::{KeySet, Skipped},
        key_snapshot::{FetchSequence, KeySnapshot, LoadedKeys},
        metrics::Counters,
        source::Source,
    },
    warn_limit::WarnLimit,
};

/// For how long after a failed first load callers get its error, so that they do not overload an
/// issuer that is down.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Fraction by which the refresh period varies either way.
pub(super) const JITTER: f64 = 0.1;
/// Upper bound for the refresh period. Longer ones, which mean "never", overflow instants.
pub(super) const MAX_PERIOD: Duration = Duration::from_secs(u32::MAX as u64);

/// How much longer than a fetch's own time limit its followers wait.
const WAIT_MARGIN: Duration = Duration::from_secs(1);

pub(super) type Outcome = Result<(), VerifyError>;
type Leader = single_flight::Leader<(), Outcome>;
pub(super) type Follower = single_flight::Follower<(), Outcome>;

/// How often keys are fetched, and for how long at most.
#[derive(Clone, Copy, Debug)]
pub(in crate::verifier::jwks) struct Freshness {
    pub(in crate::verifier::jwks) period: Duration,
    pub(in crate::verifier::jwks) cooldown: Duration,
    pub(in crate::verifier::jwks) fetch_timeout: Duration,
    /// Keys that are older are not used.
    pub(in crate::verifier::jwks) max_key_age: Option<Duration>,
}

impl Freshness {
    /// Returns the longest time from the begin of a fetch to the end of the next periodic one.
    pub(in crate::verifier::jwks) fn longest_round(&self) -> Duration {
        self.period.min(MAX_PERIOD).mul_f64(1.0 + JITTER).saturating_add(self.fetch_timeout)
    }
}

pub(super) struct State {
    pub(super) source: Source,
    pub(super) algorithms: Arc<[Algorithm]>,
    pub(super) freshness: Freshness,
    pub(super) clock: Clock,
    pub(super) current: ArcSwapOption<KeySnapshot>,
    pub(super) counters: Counters,
    pub(super) watchdog: Watchdog,
    warn_limit: WarnLimit,
    gauges: Gauges<1>,
    flights: Arc<Flights<(), Outcome>>,
    pub(super) fetches: Tasks,
    /// Locked before `flights`, so that numbering, cooldown and the fetch under way change
    /// together.
    history: Mutex<History>,
}

struct History {
    /// The number of fetches that have begun, which is also the number of the latest one.
    begun: u64,
    last: Option<(Instant, Outcome)>,
    last_success: Option<Instant>,
    cooldown: Cooldown,
}

/// The cause of a fetch.
#[derive(Clone, Copy)]
pub(super) enum FetchTrigger<'a> {
    /// The first load, the periodic refresh, or an operator.
    Internal,
    /// A token with an unknown key id.
    Token { key_id: &'a str, arrival: FetchSequence },
}

impl State {
    pub(super) fn new(
        source: Source,
        algorithms: Arc<[Algorithm]>,
        freshness: Freshness,
        clock: Clock,
    ) -> Self {
        let cooldown = Cooldown::new(freshness.cooldown);
        // A refresh that waited in vain for another's fetch begins its own a round later.
        let watchdog = Watchdog::new(freshness.longest_round().saturating_mul(2), clock.clone());
        let history = History { begun: 0, last: None, last_success: None, cooldown };
        Self {
            source,
            algorithms,
            freshness,
            clock,
            current: ArcSwapOption::empty(),
            counters: Counters::default(),
            watchdog,
            warn_limit: WarnLimit::default(),
            gauges: Gauges::new([Measure::Keys]),
            flights: Flights::new(),
            fetches: Tasks::default(),
            history: Mutex::new(history),
        }
    }

    /// Stores keys that were read before the first fetch. Those that never change have no age.
    pub(super) fn start_with(&self, keys: KeySet) {
        self.warn_about(&keys);
        let (loaded, began) = (LoadedKeys { keys, issuer: None }, self.clock.monotonic());
        if !matches!(self.source, Source::Fixed) {
            lock(&self.history).last_success = Some(began);
            telemetry::keys_loaded(&self.clock);
        }
        self.store(KeySnapshot { loaded, fetch: 0, began });
    }

    fn store(&self, snapshot: KeySnapshot) {
        let keys = snapshot.loaded.keys.len() as u64;
        self.current.store(Some(Arc::new(snapshot)));
        self.gauges.publish(|| [keys]);
    }

    pub(super) fn arrival(&self) -> FetchSequence {
        FetchSequence(lock(&self.history).begun)
    }

    /// Joins the fetch under way, or starts one. It runs in its own task, so cancelling a caller
    /// does not cancel it, and holds no lock.
    ///
    /// Returns an error if a token triggers the fetch within the cooldown.
    pub(super) fn join_fetch(
        self: &Arc<Self>,
        trigger: FetchTrigger<'_>,
    ) -> Result<Follower, VerifyError> {
        let mut history = lock(&self.history);
        let leader = match self.flights.join(()) {
            Joined::Follower(follower) => {
                if let FetchTrigger::Token { key_id, arrival } = trigger {
                    history.cooldown.join(arrival, key_id);
                }
                return Ok(follower);
            }
            // An early return drops the leader before the lock, so nobody can follow it.
            Joined::Leader(leader) => leader,
        };
        let runtime = Handle::try_current().map_err(|_| {
            let message = "fetching the issuer's keys needs a Tokio runtime";
            VerifyError::new(VerifyErrorKind::Aborted, message)
        })?;
        let number = history.begun.saturating_add(1);
        if let FetchTrigger::Token { key_id, .. } = trigger {
            // Under the lock: of concurrent tokens after the cooldown, one starts a fetch.
            if let Some(remaining) = history.cooldown.remaining(self.clock.monotonic()) {
                return Err(self.undecided(remaining));
            }
            history.cooldown.begin(number, key_id);
        }
        history.begun = number;
        self.watchdog.reset();
        // A runtime that is shutting down drops the task within `spawn`, and the drop takes the
        // lock.
        drop(history);
        self.counters.fetches.increment();
        let follower = leader.follower();
        let fetch = Fetch { state: Arc::clone(self), number, leader: Some(leader) };
        self.fetches.spawn(&runtime, fetch.run());
        Ok(follower)
    }

    /// Waits for the outcome of a fetch. The wait is bounded, because the fetch runs on the runtime of
    /// the caller that began it, which may not be driven any more; then another caller may begin one.
    pub(super) async fn outcome_of(&self, mut fetch: Follower) -> Outcome {
        let limit = self.freshness.fetch_timeout.saturating_add(WAIT_MARGIN);
        match self.clock.timeout(limit, fetch.outcome()).await {
            Some(outcome) => outcome.unwrap_or_else(|| Err(aborted())),
            None => {
                fetch.give_up();
                let message = "fetching the issuer's keys did not end; is the runtime that it \
                               started on still driven?";
                Err(VerifyError::new(VerifyErrorKind::Timeout, message))
            }
        }
    }

    /// Returns the error for a key id that is unknown now and may be known at the next fetch.
    pub(super) fn undecided(&self, retry_after: Duration) -> VerifyError {
        self.counters.within_cooldown.increment();
        let message =
            "the token's key id is unknown, and the issuer's keys were fetched a moment ago";
        VerifyError::new(VerifyErrorKind::Inconclusive, message).with_retry_after(retry_after)
    }

    pub(super) fn is_known_missing(&self, key_id: &str) -> bool {
        lock(&self.history).cooldown.is_known_missing(key_id, self.clock.monotonic())
    }

    /// Returns the error of a fetch that failed just now, and for how long it is repeated.
    pub(super) fn recent_failure(&self) -> Option<(Duration, VerifyError)> {
        match &lock(&self.history).last {
            Some((at, Err(error))) => {
                let pause = remaining(*at, PAUSE_AFTER_FAILURE, self.clock.monotonic())?;
                Some((pause, error.clone()))
            }
            _ => None,
        }
    }

    /// Returns the time since the last successful fetch.
    pub(super) fn age(&self) -> Option<Duration> {
        let fetched = lock(&self.history).last_success?;
        Some(self.clock.monotonic().saturating_duration_since(fetched))
    }

    /// Warns of keys that cannot be used, and of a set without keys.
    fn warn_about(&self, keys: &KeySet) {
        let Self { source, warn_limit, clock, .. } = self;
        let (usable, now) = (keys.len(), clock.monotonic());
        if let Some(Skipped { count, position, reason }) = keys.skipped()
            && let Some(suppressed) = warn_limit.admit("unusable keys", now)
        {
            tracing::warn!(
                %source,
                skipped = count,
                usable,
                position,
                reason,
                suppressed,
                "some keys of the JWK Set cannot be used; this is why the first of them cannot"
            );
        }
        if usable == 0
            && let Some(suppressed) = warn_limit.admit("no keys", now)
        {
            tracing::warn!(%source, suppressed, "the issuer's key set is empty");
        }
    }

    async fn fetch(&self, number: u64) -> Outcome {
        let (limit, began) = (self.freshness.fetch_timeout, self.clock.monotonic());
        let fetched = self.clock.timeout(limit, self.source.fetch(&self.algorithms)).await;
        let fetched = fetched.unwrap_or_else(|| {
            let message = format!("{}: no answer within {limit:?}", self.source);
            Err(VerifyError::new(VerifyErrorKind::Timeout, message))
        });
        match fetched {
            Ok(loaded) => {
                self.warn_about(&loaded.keys);
                let keys = loaded.keys.len();
                tracing::debug!(source = %self.source, keys, "loaded the issuer's keys");
                self.store(KeySnapshot { loaded, fetch: number, began });
                telemetry::keys_loaded(&self.clock);
                Ok(())
            }
            Err(error) => {
                let message = "cannot fetch the issuer's keys; the current ones stay in use";
                let kind = error.kind().as_str();
                match self.warn_limit.admit(kind, self.clock.monotonic()) {
                    Some(suppressed) => {
                        tracing::warn!(source = %self.source, %error, suppressed, "{message}");
                    }
                    None => tracing::debug!(source = %self.source, %error, "{message}"),
                }
                Err(error)
            }
        }
    }
}

/// The fetch under way. However it ends, its followers learn of it and the next one may begin.
struct Fetch {
    state: Arc<State>,
    number: u64,
    /// `None` once the fetch is complete.
    leader: Option<Leader>,
}

impl Fetch {
    async fn run(mut self) {
        let span = telemetry::key_fetch_span(&self.state.source);
        let outcome = {
            let mut fetch = pin!(self.state.fetch(self.number).instrument(span.clone()));
            poll_fn(|cx| poll_caught(fetch.as_mut(), cx)).await
        };
        let outcome = outcome.unwrap_or_else(|Panicked| Err(aborted()));
        if let Err(error) = &outcome {
            telemetry::record_error(&span, error.kind());
        }
        drop(span);
        self.complete(outcome);
    }

    fn complete(&mut self, outcome: Outcome) {
        let Some(leader) = self.leader.take() else { return };
        let State { clock, current, counters, .. } = &*self.state;
        if outcome.is_err() {
            counters.failed_fetches.increment();
        }
        let (now, keys) = (clock.monotonic(), current.load_full());
        let loaded = keys.filter(|_| outcome.is_ok());
        let mut history = lock(&self.state.history);
        leader.free_key();
        history
            .cooldown
            .end(now, loaded.map(|keys| move |key_id: &str| keys.loaded.keys.contains(key_id)));
        history.last = Some((now, outcome.clone()));
        if outcome.is_ok() {
            history.last_success = Some(now);
        }
        // Followers are woken outside of the lock.
        drop(history);
        telemetry::keys_fetched(match &outcome {
            Ok(()) => "success",
            Err(error) => error.kind().as_str(),
        });
        leader.complete(outcome);
    }
}

impl Drop for Fetch {
    /// Handles a task that was dropped with its runtime and never completed.
    fn drop(&mut self) {
        if let Some(leader) = self.leader.take() {
            self.state.counters.failed_fetches.increment();
            telemetry::keys_fetched(VerifyErrorKind::Aborted.as_str());
            let now = self.state.clock.monotonic();
            let mut history = lock(&self.state.history);
            leader.free_key();
            history.cooldown.end(now, None::<fn(&str) -> bool>);
        }
    }
}

fn aborted() -> VerifyError {
    let message = "fetching the issuer's keys was aborted";
    VerifyError::new(VerifyErrorKind::Aborted, message)
}
