//! The handle of a refresher.

use std::{fmt, sync::Arc};

use tokio::runtime::Handle;

use super::task::{Fetch, Phase, Shared, Task};
use crate::{
    background_task::BackgroundTask,
    client::{Token, TokenError, TokenErrorKind},
    clock::Clock,
};

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
        match ready {
            Some(token) => Ok(token),
            None => shared.wait().await,
        }
    }

    /// Replaces the token before it is handed out again, if it is `rejected`.
    pub(in crate::client) fn invalidate(&self, rejected: &Token) {
        self.0.shared.invalidate(rejected);
    }

    fn start(&self) -> Result<(), TokenError> {
        let Owner { shared, task } = &*self.0;
        let runtime = Handle::try_current().map_err(|error| {
            let message = format!("{}: getting a token needs a Tokio runtime", shared.fetch.what());
            TokenError::new(TokenErrorKind::Aborted, message).with_source(error)
        })?;
        task.start(&runtime, |running| {
            shared.phase.send_replace(Phase::Requested);
            Task::new(Arc::clone(shared), running).run()
        });
        Ok(())
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
