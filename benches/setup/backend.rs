//! A fake backend with a latency, a concurrency limit and a call counter.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::Semaphore;
use tower_kube_auth::{
    BearerToken, Verifier,
    audience::Audiences,
    error::{VerifyError, VerifyErrorKind},
    verdict::{RejectReason, Verdict},
};

use super::tokens::acceptance;

#[derive(Clone)]
pub struct Backend(Arc<State>);

struct State {
    latency: Duration,
    permits: Semaphore,
    calls: AtomicUsize,
    /// Of a hundred tokens, the number that are rejected and the number that fail.
    rejected_and_failed: (u64, u64),
}

impl Backend {
    pub fn new(latency: Duration, permits: usize, rejected_and_failed: (u64, u64)) -> Self {
        let (permits, calls) = (Semaphore::new(permits), AtomicUsize::new(0));
        Self(Arc::new(State { latency, permits, calls, rejected_and_failed }))
    }

    pub fn calls(&self) -> usize {
        self.0.calls.load(Ordering::Relaxed)
    }
}

impl Verifier for Backend {
    async fn verify(
        &self,
        token: BearerToken<'_>,
        audiences: &Audiences,
    ) -> Result<Verdict, VerifyError> {
        let State { latency, permits, calls, rejected_and_failed: (rejected, failed) } = &*self.0;
        calls.fetch_add(1, Ordering::Relaxed);
        let _permit = permits.acquire().await;
        tokio::time::sleep(*latency).await;
        // The signature is random and different for each token.
        let fate = token
            .expose_secret()
            .bytes()
            .rev()
            .take(64)
            .fold(0_u64, |sum, byte| sum * 31 % 1_000_003 + u64::from(byte));
        match fate % 100 {
            fate if fate < *rejected => Ok(Verdict::Reject(RejectReason::Unauthenticated)),
            fate if fate < rejected + failed => {
                Err(VerifyError::new(VerifyErrorKind::Unavailable, "on purpose"))
            }
            _ => Ok(Verdict::Accept(acceptance(audiences))),
        }
    }
}
