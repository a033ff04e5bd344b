//! The limit on concurrent loads, with a bounded queue in front of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::{
    clock::Clock,
    error::{VerifyError, VerifyErrorKind},
};

/// Queue places per permit.
const QUEUE_FACTOR: usize = 16;
/// One permit in this many is reserved for keys that were accepted before, so that a flood of
/// unknown keys does not displace known callers.
const RESERVED_SHARE: usize = 4;

pub(crate) struct Limit {
    shared: Pool,
    reserved: Pool,
    max_in_flight: usize,
    max_wait: Duration,
    clock: Clock,
}

struct Pool {
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    queue: usize,
}

impl Limit {
    pub(crate) fn new(max_in_flight: usize, max_wait: Duration, clock: Clock) -> Self {
        let reserved = (max_in_flight / RESERVED_SHARE).max(1);
        Self {
            shared: Pool::new(max_in_flight.saturating_sub(reserved)),
            reserved: Pool::new(reserved),
            max_in_flight,
            max_wait,
            clock,
        }
    }

    /// Returns a permit, waiting for at most `max_wait`. Known tokens have a queue of their own.
    pub(crate) async fn acquire(&self, is_known: bool) -> Result<SemaphorePermit<'_>, VerifyError> {
        let pool = if is_known { &self.reserved } else { &self.shared };
        for pool in [&self.shared, pool] {
            if let Ok(permit) = pool.permits.try_acquire() {
                return Ok(permit);
            }
        }
        let _slot = QueueSlot::take(pool)?;
        match self.clock.timeout(self.max_wait, pool.permits.acquire()).await {
            Some(Ok(permit)) => Ok(permit),
            Some(Err(_)) | None => Err(saturated()),
        }
    }

    /// Returns a permit for a background verification of a known token: a reserved one, or a shared
    /// one while more than half of all permits are free, so that it delays no request.
    pub(crate) fn try_acquire_background(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.reserved.permits).try_acquire_owned() {
            return Some(permit);
        }
        let is_idle = self.free() > self.max_in_flight / 2;
        is_idle.then(|| Arc::clone(&self.shared.permits).try_acquire_owned().ok())?
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.max_in_flight.saturating_sub(self.free())
    }

    pub(crate) fn waiting(&self) -> usize {
        [&self.shared, &self.reserved].map(|pool| pool.waiting.load(Ordering::Relaxed)).iter().sum()
    }

    fn free(&self) -> usize {
        self.shared.permits.available_permits() + self.reserved.permits.available_permits()
    }
}

impl Pool {
    fn new(permits: usize) -> Self {
        let queue = permits.saturating_mul(QUEUE_FACTOR);
        Self { permits: Arc::new(Semaphore::new(permits)), waiting: AtomicUsize::new(0), queue }
    }
}

/// A place in the queue, released on drop.
struct QueueSlot<'a>(&'a AtomicUsize);

impl<'a> QueueSlot<'a> {
    fn take(pool: &'a Pool) -> Result<Self, VerifyError> {
        let slot = Self(&pool.waiting);
        if pool.waiting.fetch_add(1, Ordering::Relaxed) < pool.queue {
            Ok(slot)
        } else {
            Err(saturated())
        }
    }
}

impl Drop for QueueSlot<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn saturated() -> VerifyError {
    VerifyError::new(
        VerifyErrorKind::Saturated,
        "too many decisions are in flight; see max_in_flight",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::manual::ManualClock;

    const SECOND: Duration = Duration::from_secs(1);

    fn limit(max_in_flight: usize) -> Limit {
        Limit::new(max_in_flight, SECOND, ManualClock::new().clock())
    }

    #[tokio::test]
    async fn a_waiter_gets_the_next_permit_or_an_error_after_max_wait() {
        let clock = ManualClock::new();
        let limit = Limit::new(2, SECOND, clock.clock());
        let permit = limit.acquire(false).await.unwrap();
        let (next, ()) = tokio::join!(limit.acquire(false), async { drop(permit) });
        let _held = next.unwrap();
        let (late, ()) = tokio::join!(limit.acquire(false), async { clock.advance(SECOND) });
        assert_eq!(late.unwrap_err().kind(), VerifyErrorKind::Saturated);
        assert_eq!(limit.waiting(), 0);
    }

    #[tokio::test]
    async fn the_queue_is_bounded() {
        let limit = limit(2);
        let _held = limit.acquire(false).await.unwrap();
        limit.shared.waiting.store(QUEUE_FACTOR, Ordering::Relaxed);
        assert_eq!(limit.acquire(false).await.unwrap_err().kind(), VerifyErrorKind::Saturated);
        assert_eq!(limit.waiting(), QUEUE_FACTOR);
    }

    #[tokio::test]
    async fn a_quarter_is_reserved_for_known_tokens() {
        let limit = limit(8);
        let mut unknown = Vec::new();
        for _ in 0..6 {
            unknown.push(limit.acquire(false).await.unwrap());
        }
        limit.shared.waiting.store(6 * QUEUE_FACTOR, Ordering::Relaxed);
        assert!(limit.acquire(false).await.is_err(), "the queue of unknown tokens is full");
        let known = [limit.acquire(true).await.unwrap(), limit.acquire(true).await.unwrap()];
        assert_eq!(limit.in_flight(), 8);
        assert!(limit.try_acquire_background().is_none());
        drop(known);
        assert!(
            limit.try_acquire_background().is_some() && limit.try_acquire_background().is_some()
        );
    }

    #[tokio::test]
    async fn background_verifications_take_at_most_half() {
        for max_in_flight in [2, 4, 8, 64] {
            let limit = limit(max_in_flight);
            let background: Vec<_> =
                std::iter::from_fn(|| limit.try_acquire_background()).collect();
            assert_eq!(
                (background.len(), limit.in_flight()),
                (max_in_flight / 2, max_in_flight / 2)
            );
        }
    }
}
