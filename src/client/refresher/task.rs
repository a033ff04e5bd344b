//! The background task: the only one that ever fetches, so there is never more than one attempt at a time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{Fetch, Held, Phase, Shared, backoff};
use crate::client::{TokenError, TokenErrorKind};

/// Tells the handles when the task has ended, also where its runtime was shut down under it.
pub(super) struct Guard<F: Fetch>(Arc<Shared<F>>);

impl<F: Fetch> Guard<F> {
    pub(super) fn new(shared: Arc<Shared<F>>) -> Self {
        Self(shared)
    }
}

impl<F: Fetch> Drop for Guard<F> {
    fn drop(&mut self) {
        let message =
            format!("{}: the runtime that refreshed the token was shut down", self.0.fetch.what());
        self.0.phase.send_replace(Phase::Failed(TokenError::new(TokenErrorKind::Aborted, message)));
        self.0.running.store(false, Ordering::Release);
    }
}

pub(super) async fn run<F: Fetch>(guard: Guard<F>) {
    let shared = &guard.0;
    let mut phase = shared.phase.subscribe();
    let mut failures = 0_u32;
    loop {
        if shared.ready().is_none() {
            // Whoever calls now waits for this attempt instead of being told of the last one.
            shared.phase.send_replace(Phase::Requested);
        }
        let pause = match shared.attempt().await {
            Ok(next) => {
                failures = 0;
                shared.phase.send_replace(Phase::Fresh);
                next
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                let pause = shared.give_up_for_now(&error, failures);
                shared.phase.send_replace(Phase::Failed(error));
                pause
            }
        };
        let wanted = phase.wait_for(|phase| matches!(phase, Phase::Requested));
        // Either the time has come or somebody cannot wait for it: both mean the next attempt.
        let _ = shared.clock.timeout(pause, wanted).await;
    }
}

impl<F: Fetch> Shared<F> {
    async fn attempt(&self) -> Result<Duration, TokenError> {
        let fetched = self.fetch.fetch().await?;
        if !fetched.token.is_valid_at(self.clock.wall()) {
            return Err(self.expired());
        }
        tracing::debug!(source = self.fetch.what(), token = ?fetched.token, next = ?fetched.next, "got a token to send");
        self.current
            .store(Some(Arc::new(Held { token: fetched.token, refused: AtomicBool::new(false) })));
        Ok(fetched.next)
    }

    fn give_up_for_now(&self, error: &TokenError, failures: u32) -> Duration {
        let (shortest, longest) = F::BACK_OFF;
        let pause = backoff::back_off(failures, shortest, longest, fastrand::f64());
        if let Some(held) = self.current.load_full() {
            // Refused somewhere, but still the best there is.
            held.refused.store(false, Ordering::Release);
        }
        let keeping = self.usable().is_some();
        tracing::warn!(%error, kind = error.kind().as_str(), again_in = ?pause, keeping, "could not get a token to send");
        pause
    }
}
