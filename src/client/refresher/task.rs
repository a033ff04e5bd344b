//! The background task of a refresher. Nothing else fetches, so at most one attempt is under way.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{
    fetch::Fetch,
    shared::{Phase, Shared},
};
use crate::{
    background_task::RunningGuard,
    client::{TokenError, TokenErrorKind},
};

pub(super) struct Task<F: Fetch> {
    shared: Arc<Shared<F>>,
    /// Dropped after `Task::drop`, so a new task cannot start before the end of this one is known.
    _running: RunningGuard,
}

impl<F: Fetch> Drop for Task<F> {
    /// Informs waiting callers, also if the runtime shut down.
    fn drop(&mut self) {
        let what = self.shared.fetch.what();
        let message = format!("{what}: the runtime that refreshed the token was shut down");
        let error = TokenError::new(TokenErrorKind::Aborted, message);
        self.shared.phase.send_replace(Phase::Failed(error));
    }
}

impl<F: Fetch> Task<F> {
    pub(super) fn new(shared: Arc<Shared<F>>, running: RunningGuard) -> Self {
        Self { shared, _running: running }
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
            let pause = match self.attempt().await {
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
