//! The state that the handles of a refresher share with its task.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use super::fetch::Fetch;
use crate::{
    client::{Token, TokenError, TokenErrorKind},
    clock::Clock,
    lock::lock,
};

/// Lower bound for the time between two fetches that invalidations cause, however many servers
/// reject the token.
pub(super) const INVALIDATION_COOLDOWN: Duration = Duration::from_secs(10);

pub(super) struct Shared<F> {
    pub(super) fetch: F,
    pub(super) clock: Clock,
    pub(super) current: ArcSwapOption<Current>,
    pub(super) phase: watch::Sender<Phase>,
    last_invalidation: Mutex<Option<Instant>>,
}

pub(super) struct Current {
    pub(super) token: Token,
    /// A server rejected the token: it is replaced before it is used again, if that is possible.
    pub(super) is_invalidated: AtomicBool,
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
    pub(super) fn usable(&self) -> Option<Token> {
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
    pub(super) fn request_refresh(&self) {
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

    pub(super) fn expired(&self) -> TokenError {
        let message = format!(
            "{}: the token has already expired; does its refresh still work, and is the clock \
             right?",
            self.fetch.what()
        );
        TokenError::new(TokenErrorKind::Expired, message)
    }
}

impl<F> Shared<F> {
    pub(super) fn store(&self, token: Token) {
        let current = Current { token, is_invalidated: AtomicBool::new(false) };
        self.current.store(Some(Arc::new(current)));
    }
}
