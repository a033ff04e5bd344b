//! The handle of a refresher.

use std::{fmt, sync::Arc, time::Duration};

use tokio::runtime::Handle;

use super::task::{Fetch, Phase, Shared, Task};
use crate::{
    background_task::BackgroundTask,
    client::{Token, TokenError, TokenErrorKind},
    clock::Clock,
};

/// How much longer than an attempt's own time limit a caller waits for it.
const WAIT_MARGIN: Duration = Duration::from_secs(1);

/// Keeps a token fresh. The task starts with the first call of [`token`](Self::token) and ends when
/// the last handle is dropped.
pub(in crate::client) struct Refresher<F>(Arc<Owner<F>>);

impl<F> Clone for Refresher<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// The state that the handles share. The task does not hold it, so it ends with the handles.
struct Owner<F> {
    shared: Arc<Shared<F>>,
    task: BackgroundTask,
}

impl<F: Fetch> Refresher<F> {
    pub(in crate::client) fn new(fetch: F, clock: Clock) -> Self {
        let shared = Arc::new(Shared::new(fetch, clock));
        Self(Arc::new(Owner { shared, task: BackgroundTask::default() }))
    }

    pub(in crate::client) fn fetcher(&self) -> &F {
        &self.0.shared.fetch
    }

    /// Returns the current token at once; if there is none, the outcome of the attempt under way.
    pub(in crate::client) async fn token(&self) -> Result<Token, TokenError> {
        let Owner { shared, task } = &*self.0;
        let ready = shared.ready();
        if !task.is_running()
            && let Err(error) = self.start()
        {
            return ready.ok_or(error);
        }
        if let Some(token) = ready {
            return Ok(token);
        }
        let running = task.running();
        let limit = shared.fetch.time_limit().saturating_add(WAIT_MARGIN);
        match shared.clock().timeout(limit, shared.wait()).await {
            Some(outcome) => outcome,
            None => self.take_over(running).await,
        }
    }

    /// Replaces a task that does not end its attempt, because nothing drives the runtime that it
    /// started on.
    async fn take_over(&self, running: u64) -> Result<Token, TokenError> {
        let Owner { shared, task } = &*self.0;
        let spawn = |running| Task::new(Arc::clone(shared), running).run();
        if task.replace(running, &Self::runtime(shared)?, spawn) {
            tracing::warn!(
                source = shared.fetch.what(),
                "the task that refreshes the token does not answer; starting another one"
            );
        }
        let limit = shared.fetch.time_limit().saturating_add(WAIT_MARGIN);
        let wait = shared.clock().timeout(limit, shared.wait());
        wait.await.unwrap_or_else(|| Err(shared.stuck()))
    }

    /// Replaces the token before it is handed out again, if it is `rejected`.
    pub(in crate::client) fn invalidate(&self, rejected: &Token) {
        self.0.shared.invalidate(rejected);
    }

    fn start(&self) -> Result<(), TokenError> {
        let Owner { shared, task } = &*self.0;
        task.start(&Self::runtime(shared)?, |running| {
            shared.phase.send_replace(Phase::Requested);
            Task::new(Arc::clone(shared), running).run()
        });
        Ok(())
    }

    fn runtime(shared: &Shared<F>) -> Result<Handle, TokenError> {
        Handle::try_current().map_err(|error| {
            let message = format!("{}: getting a token needs a Tokio runtime", shared.fetch.what());
            TokenError::new(TokenErrorKind::Aborted, message).with_source(error)
        })
    }
}

impl<F: Fetch> fmt::Debug for Refresher<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = self.0.shared.current.load();
        f.debug_struct("Refresher")
            .field("what", &self.0.shared.fetch.what())
            .field("current", &current.as_ref().map(|current| &current.token))
            .finish()
    }
}
