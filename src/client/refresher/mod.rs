//! Keeps one token fresh: read without a lock, replaced by one background task that ends with the last handle.

pub(super) mod backoff;
mod task;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use tokio::{runtime, sync::watch, task::AbortHandle};

use super::{Token, TokenError, TokenErrorKind};
use crate::clock::Clock;

/// However many servers refuse the token, they make us get another one no more often than this.
const BETWEEN_FORGETS: Duration = Duration::from_secs(10);

/// One way to get a token.
pub(super) trait Fetch: Send + Sync + 'static {
    /// After a failure the first pause and the longest one.
    const BACK_OFF: (Duration, Duration);

    /// The file or the API call, for messages.
    fn what(&self) -> String;

    fn fetch(&self) -> impl Future<Output = Result<Fetched, TokenError>> + Send;
}

pub(super) struct Fetched {
    pub(super) token: Token,
    /// When the next one is due.
    pub(super) next: Duration,
}

/// A handle. The task starts with the first call and ends when the last handle is dropped.
pub(super) struct Refresher<F>(Arc<Owner<F>>);

impl<F> Clone for Refresher<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// What the handles share. The task does not hold it, so that it knows when they are gone.
struct Owner<F> {
    shared: Arc<Shared<F>>,
    task: Mutex<Option<AbortHandle>>,
}

impl<F> Drop for Owner<F> {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
    }
}

/// What the handles share with the task.
struct Shared<F> {
    fetch: F,
    clock: Clock,
    current: ArcSwapOption<Held>,
    phase: watch::Sender<Phase>,
    running: AtomicBool,
    forgotten: Mutex<Option<Instant>>,
}

struct Held {
    token: Token,
    /// A server refused it: to be replaced before it is used again, where that is possible.
    refused: AtomicBool,
}

/// What the task is about, and how callers make it request_refresh.
#[derive(Clone)]
enum Phase {
    /// Somebody waits for an attempt.
    Requested,
    /// The last attempt got a token; the next one comes at its time.
    Fresh,
    /// The last attempt got none; the next one comes after its pause, whoever calls.
    Failed(TokenError),
}

impl<F: Fetch> Refresher<F> {
    pub(super) fn new(fetch: F, clock: Clock) -> Self {
        let shared = Shared {
            fetch,
            clock,
            current: ArcSwapOption::empty(),
            phase: watch::Sender::new(Phase::Requested),
            running: AtomicBool::new(false),
            forgotten: Mutex::new(None),
        };
        Self(Arc::new(Owner { shared: Arc::new(shared), task: Mutex::new(None) }))
    }

    pub(super) fn fetcher(&self) -> &F {
        &self.0.shared.fetch
    }

    /// The token that is kept, at once; where there is none, the outcome of the attempt under way.
    pub(super) async fn token(&self) -> Result<Token, TokenError> {
        let shared = &self.0.shared;
        let ready = shared.ready();
        if shared.running.load(Ordering::Acquire) {
            if let Some(token) = ready {
                return Ok(token);
            }
        } else if let Err(error) = self.start() {
            return ready.ok_or(error);
        } else if let Some(token) = ready {
            return Ok(token);
        }
        shared.wait().await
    }

    /// Has the token replaced, if it is `refused`, before it is handed out again.
    pub(super) fn invalidate(&self, refused: &Token) {
        let shared = &self.0.shared;
        let Some(held) =
            shared.current.load_full().filter(|held| held.token.is_same_secret(refused))
        else {
            return;
        };
        let now = shared.clock.monotonic();
        let mut last = lock(&shared.forgotten);
        if last.is_some_and(|last| now.saturating_duration_since(last) < BETWEEN_FORGETS) {
            tracing::debug!(
                "a server refused our token, which was replaced only just now; it is kept"
            );
            return;
        }
        *last = Some(now);
        drop(last);
        tracing::debug!(
            source = shared.fetch.what(),
            "a server refused our token; getting another one"
        );
        held.refused.store(true, Ordering::Release);
        shared.request_refresh();
    }

    /// Starts the task, unless somebody else just did.
    fn start(&self) -> Result<(), TokenError> {
        let Owner { shared, task } = &*self.0;
        let runtime = runtime::Handle::try_current().map_err(|error| {
            let message = format!("{}: getting a token needs a Tokio runtime", shared.fetch.what());
            TokenError::new(TokenErrorKind::Aborted, message).with_source(error)
        })?;
        let mut task = lock(task);
        if !shared.running.swap(true, Ordering::AcqRel) {
            shared.phase.send_replace(Phase::Requested);
            *task =
                Some(runtime.spawn(task::run(task::Guard::new(Arc::clone(shared)))).abort_handle());
        }
        Ok(())
    }
}

impl<F> Shared<F> {
    /// The token that can be handed out without further ado. No lock, no I/O.
    fn ready(&self) -> Option<Token> {
        let held = self.current.load();
        let held = held.as_ref()?;
        let good =
            !held.refused.load(Ordering::Acquire) && held.token.is_valid_at(self.clock.wall());
        good.then(|| held.token.clone())
    }

    /// The token that is better than none: not expired, even if some server refused it.
    fn usable(&self) -> Option<Token> {
        let held = self.current.load();
        held.as_ref()
            .filter(|held| held.token.is_valid_at(self.clock.wall()))
            .map(|held| held.token.clone())
    }

    /// Makes the task try at once, unless it is pausing after a failure.
    fn request_refresh(&self) {
        self.phase.send_if_modified(|phase| {
            let idle = matches!(phase, Phase::Fresh);
            if idle {
                *phase = Phase::Requested;
            }
            idle
        });
    }
}

impl<F: Fetch> Shared<F> {
    async fn wait(&self) -> Result<Token, TokenError> {
        let mut phase = self.phase.subscribe();
        // Twice, because the token may expire, or be refused, between its arrival and our look at it.
        for _ in 0..2 {
            if let Some(token) = self.ready() {
                return Ok(token);
            }
            self.request_refresh();
            // The sender lives as long as `self`.
            let settled = phase
                .wait_for(|phase| !matches!(phase, Phase::Requested))
                .await
                .map(|phase| phase.clone());
            if let Some(token) = self.usable() {
                return Ok(token);
            }
            if let Ok(Phase::Failed(error)) = settled {
                return Err(error);
            }
        }
        Err(self.expired())
    }

    fn expired(&self) -> TokenError {
        let message = format!(
            "{}: the token has expired already; is whatever refreshes it still working, and is the clock right?",
            self.fetch.what()
        );
        TokenError::new(TokenErrorKind::Expired, message)
    }
}

impl<F: Fetch> fmt::Debug for Refresher<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = self.0.shared.current.load();
        f.debug_struct("Refresher")
            .field("what", &self.0.shared.fetch.what())
            .field("current", &current.as_ref().map(|held| &held.token))
            .finish()
    }
}

/// Nothing that is done under these locks can panic half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
