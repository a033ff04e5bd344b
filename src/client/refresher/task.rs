//! The background task of a refresher, and the state that it shares with the handles. Nothing else
//! fetches, so at most one attempt is under way.

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwapOption;
use tokio::sync::watch;
use tracing::Instrument;

use crate::{
    background_task::RunningGuard,
    backoff::Backoff,
    client::{Token, TokenError, TokenErrorKind},
    clock::Clock,
    lock::lock,
    telemetry,
};

/// One way to get a token.
pub(in crate::client) trait Fetch: Send + Sync + 'static {
    /// The pauses after failures.
    const BACKOFF: Backoff;

    /// Returns the name of the file or the API call, for messages.
    fn what(&self) -> String;

    /// Returns the time limit of one fetch.
    fn time_limit(&self) -> Duration;

    fn fetch(&self) -> impl Future<Output = Result<Fetched, TokenError>> + Send;
}

pub(in crate::client) struct Fetched {
    pub(in crate::client) token: Token,
    /// The time until the next fetch.
    pub(in crate::client) next: Duration,
}

/// Lower bound for the time between two fetches that invalidations cause, however many servers
/// reject the token.
pub(super) const INVALIDATION_COOLDOWN: Duration = Duration::from_secs(10);

pub(super) struct Shared<F> {
    pub(super) fetch: F,
    clock: Clock,
    pub(super) current: ArcSwapOption<Current>,
    pub(super) phase: watch::Sender<Phase>,
    last_invalidation: Mutex<Option<Instant>>,
}

pub(super) struct Current {
    pub(super) token: Token,
    /// A server rejected the token: it is replaced before it is used again, if that is possible.
    is_invalidated: AtomicBool,
}

/// What the task does next. Callers request a refresh by changing it.
#[derive(Clone)]
pub(super) enum Phase {
    /// A caller waits for an attempt.
    Requested,
    /// The last attempt got a token; the next one comes at its time.
    Fresh,
    /// The last attempt failed; the next one comes after its pause, whoever calls.
    Failed(TokenError),
}

impl<F: Fetch> Shared<F> {
    pub(super) fn new(fetch: F, clock: Clock) -> Self {
        Self {
            fetch,
            clock,
            current: ArcSwapOption::empty(),
            phase: watch::Sender::new(Phase::Requested),
            last_invalidation: Mutex::new(None),
        }
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Returns the token if it is valid and not invalidated. No lock, no I/O.
    pub(super) fn ready(&self) -> Option<Token> {
        let current = self.current.load();
        let current = current.as_ref()?;
        let is_ready = !current.is_invalidated.load(Ordering::Acquire)
            && current.token.is_valid_at(self.clock.wall());
        is_ready.then(|| current.token.clone())
    }

    /// Returns the token if it has not expired, even if it is invalidated. One server's 401 may be
    /// that server's mistake.
    fn usable(&self) -> Option<Token> {
        let current = self.current.load();
        let current = current.as_ref()?;
        current.token.is_valid_at(self.clock.wall()).then(|| current.token.clone())
    }

    /// Marks the current token if it is `rejected`, and requests another one.
    pub(super) fn invalidate(&self, rejected: &Token) {
        let Some(current) =
            self.current.load_full().filter(|current| current.token.is_same_secret(rejected))
        else {
            return;
        };
        let now = self.clock.monotonic();
        let mut last = lock(&self.last_invalidation);
        if last.is_some_and(|last| now.saturating_duration_since(last) < INVALIDATION_COOLDOWN) {
            tracing::debug!("a server rejected the token, which was just replaced; it stays");
            return;
        }
        *last = Some(now);
        drop(last);
        tracing::debug!(source = self.fetch.what(), "a server rejected the token; replacing it");
        current.is_invalidated.store(true, Ordering::Release);
        self.request_refresh();
    }

    /// Makes the task fetch at once, unless it pauses after a failure.
    fn request_refresh(&self) {
        self.phase.send_if_modified(|phase| {
            let is_idle = matches!(phase, Phase::Fresh);
            if is_idle {
                *phase = Phase::Requested;
            }
            is_idle
        });
    }

    /// Waits for the outcome of an attempt.
    pub(super) async fn wait(&self) -> Result<Token, TokenError> {
        let mut phase = self.phase.subscribe();
        // Twice, because the token may expire or be invalidated after its arrival.
        for _ in 0..2 {
            if let Some(token) = self.ready() {
                return Ok(token);
            }
            self.request_refresh();
            // The sender lives as long as `self`.
            let outcome = phase
                .wait_for(|phase| !matches!(phase, Phase::Requested))
                .await
                .map(|phase| phase.clone());
            if let Some(token) = self.usable() {
                return Ok(token);
            }
            if let Ok(Phase::Failed(error)) = outcome {
                return Err(error);
            }
        }
        Err(self.expired())
    }

    pub(super) fn stuck(&self) -> TokenError {
        let message = format!("{}: the attempt to get a token did not end", self.fetch.what());
        TokenError::new(TokenErrorKind::Timeout, message)
    }

    fn expired(&self) -> TokenError {
        let message = format!(
            "{}: the token has already expired; does its refresh still work, and is the clock \
             right?",
            self.fetch.what()
        );
        TokenError::new(TokenErrorKind::Expired, message)
    }

    fn expiry(&self) -> Option<SystemTime> {
        self.current.load().as_ref()?.token.expires_at()
    }

    fn store(&self, token: Token) {
        let current = Current { token, is_invalidated: AtomicBool::new(false) };
        self.current.store(Some(Arc::new(current)));
    }
}

pub(super) struct Task<F: Fetch> {
    shared: Arc<Shared<F>>,
    /// Dropped after `Task::drop`, so a new task cannot start before the end of this one is known.
    running: RunningGuard,
}

impl<F: Fetch> Drop for Task<F> {
    /// Informs waiting callers, also if the runtime shut down.
    fn drop(&mut self) {
        if !self.running.is_current() {
            return;
        }
        let what = self.shared.fetch.what();
        let message = format!("{what}: the runtime that refreshed the token was shut down");
        let error = TokenError::new(TokenErrorKind::Aborted, message);
        self.shared.phase.send_replace(Phase::Failed(error));
    }
}

impl<F: Fetch> Task<F> {
    pub(super) fn new(shared: Arc<Shared<F>>, running: RunningGuard) -> Self {
        Self { shared, running }
    }

    pub(super) async fn run(self) {
        let shared = &self.shared;
        let mut phase = shared.phase.subscribe();
        let mut failures = 0_u32;
        loop {
            if shared.ready().is_none() {
                // Callers wait for this attempt instead of getting the last one's error.
                shared.phase.send_replace(Phase::Requested);
            }
            let span = telemetry::token_refresh_span(&shared.fetch.what());
            let attempted = self.attempt().instrument(span.clone()).await;
            let result = match &attempted {
                Ok(_) => Ok(shared.expiry()),
                Err(error) => {
                    telemetry::record_error(&span, error.kind());
                    Err(error.kind().as_str())
                }
            };
            drop(span);
            telemetry::token_refreshed(result, &shared.clock);
            let pause = match attempted {
                Ok(next) => {
                    failures = 0;
                    shared.phase.send_replace(Phase::Fresh);
                    next
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    let pause = self.back_off(&error, failures);
                    shared.phase.send_replace(Phase::Failed(error));
                    pause
                }
            };
            let requested = phase.wait_for(|phase| matches!(phase, Phase::Requested));
            // The next attempt comes after the pause or on request.
            let _ = shared.clock.timeout(pause, requested).await;
        }
    }

    async fn attempt(&self) -> Result<Duration, TokenError> {
        let shared = &self.shared;
        let fetched = shared.fetch.fetch().await?;
        if !fetched.token.is_valid_at(shared.clock.wall()) {
            return Err(shared.expired());
        }
        tracing::debug!(
            source = shared.fetch.what(),
            token = ?fetched.token,
            next = ?fetched.next,
            "got a token to send"
        );
        shared.store(fetched.token);
        Ok(fetched.next)
    }

    fn back_off(&self, error: &TokenError, failures: u32) -> Duration {
        let pause = F::BACKOFF.pause(failures);
        if let Some(current) = self.shared.current.load_full() {
            // An invalidated token is better than none.
            current.is_invalidated.store(false, Ordering::Release);
        }
        tracing::warn!(
            %error,
            kind = error.kind().as_str(),
            again_in = ?pause,
            keeping = self.shared.usable().is_some(),
            "cannot get a token to send"
        );
        pause
    }
}
