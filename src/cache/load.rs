//! One decision that is not cached: the loader, its limits, its time limit and its panics.

use std::{
    future::{Future, poll_fn},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use super::{
    limit::Limit,
    metrics::Counters,
    started_loads::{Loading, StartedLoad, StartedLoads},
};
use crate::{
    catch_panic::{Panicked, poll_caught},
    clock::Clock,
    error::{VerifyError, VerifyErrorKind},
    telemetry::Stage,
    verdict::{Outcome, Verdict},
    warn_limit::WarnLimit,
};

/// How much longer than a decision's own time limit its followers wait.
const WAIT_MARGIN: Duration = Duration::from_secs(1);

/// Makes the decisions that are cached.
pub(crate) trait Load: Send + Sync + 'static {
    /// What a decision is about. Owned, because the task that decides outlives the request.
    type Input: Send + Sync + 'static;

    /// The name of what decides, for messages.
    const NAME: &'static str;
    /// What is decided, for metrics.
    const STAGE: Stage;

    /// Returns the name of an outcome, for metrics. Defaults to the names of authentication.
    fn result(outcome: &Outcome) -> &'static str {
        match outcome {
            Ok(Verdict::Accept(_)) => "accepted",
            Ok(Verdict::Reject(reason)) => reason.as_str(),
            Err(error) => error.kind().as_str(),
        }
    }

    /// Returns the uid of the caller whose share of the limit a load uses. Defaults to none: the
    /// load is about nobody who is known yet.
    fn caller(_input: &Self::Input) -> Option<&str> {
        None
    }

    fn load(&self, input: &Self::Input) -> impl Future<Output = Outcome> + Send;

    /// Decides without I/O, or returns `None`.
    fn load_now(&self, input: &Self::Input) -> Option<Outcome>;

    /// Decides without a permit, or returns `None`.
    fn load_when_saturated(
        &self,
        input: &Self::Input,
    ) -> impl Future<Output = Option<Outcome>> + Send {
        async { self.load_now(input) }
    }
}

/// The loader with its limits. Tasks hold this instead of the cache, so they do not keep it alive.
pub(super) struct Limited<L> {
    pub(super) loader: L,
    pub(super) limit: Limit,
    started: StartedLoads,
    timeout: Duration,
    pub(super) counters: Counters,
    pub(super) clock: Clock,
    /// Limits the log lines of panics, which requests may cause.
    warn_limit: WarnLimit,
}

impl<L: Load> Limited<L> {
    pub(super) fn new(loader: L, limit: Limit, timeout: Duration, clock: Clock) -> Self {
        Self {
            loader,
            limit,
            started: StartedLoads::default(),
            timeout,
            counters: Counters::default(),
            clock,
            warn_limit: WarnLimit::default(),
        }
    }

    /// Returns for how long followers wait for a load.
    pub(super) fn longest_wait(&self) -> Duration {
        self.timeout.saturating_add(WAIT_MARGIN)
    }

    /// Waits for a permit and loads.
    pub(super) async fn load_when_permitted(&self, input: &L::Input, is_known: bool) -> Outcome {
        match self.limit.acquire(is_known, L::caller(input)).await {
            Ok(_permit) => self.loader.load(input).await,
            Err(saturated) => {
                Box::pin(self.loader.load_when_saturated(input)).await.unwrap_or_else(|| {
                    self.counters.saturated.increment();
                    Err(saturated)
                })
            }
        }
    }

    /// Returns `loading` for a task, which has to end it within the time limit.
    pub(super) fn start(&self, loading: Loading) -> Arc<StartedLoad> {
        let limit = self.longest_wait();
        let now = self.clock.monotonic();
        // A time limit beyond what the clock can tell is none.
        self.started.add(loading, now.checked_add(limit))
    }

    /// Drops what the tasks of a runtime that is not driven any more hold, permits above all.
    pub(super) fn drop_overdue(&self) {
        self.started.drop_overdue(|| self.clock.monotonic());
    }

    /// Drives `load` to its outcome, within the time limit.
    pub(super) async fn within_timeout(&self, load: Arc<StartedLoad>) -> Outcome {
        let loaded = poll_fn(|cx| load.poll(|loading| self.poll(loading, cx)));
        self.clock.timeout(self.timeout, loaded).await.flatten().unwrap_or_else(|| {
            let message = format!("{} did not decide within {:?}", L::NAME, self.timeout);
            Err(VerifyError::new(VerifyErrorKind::Timeout, message))
        })
    }

    /// Polls once. A panic becomes an error, after which the future must not be polled again.
    pub(super) fn poll(&self, loading: &mut Loading, cx: &mut Context<'_>) -> Poll<Outcome> {
        poll_caught(loading.as_mut(), cx)
            .map(|outcome| outcome.unwrap_or_else(|panicked| Err(self.aborted(&panicked))))
    }

    pub(super) fn aborted(&self, Panicked: &Panicked) -> VerifyError {
        if let Some(suppressed) = self.warn_limit.admit("panic", self.clock.monotonic()) {
            tracing::error!(suppressed, "{} panicked; the panic hook has printed where", L::NAME);
        }
        VerifyError::new(VerifyErrorKind::Aborted, format!("{} panicked", L::NAME))
    }
}
