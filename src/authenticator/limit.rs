//! A limit on what is under way, with a bounded queue in front of it.

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

/// How many may wait for each one that may be under way.
const QUEUE_FACTOR: usize = 16;
/// One in so many is kept for tokens that were accepted before: a flood of strangers must not end those who are known.
const RESERVED_SHARE: usize = 4;

pub(super) struct Limit {
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
    pub(super) fn new(max_in_flight: usize, max_wait: Duration, clock: Clock) -> Self {
        let reserved = max_in_flight / RESERVED_SHARE;
        Self {
            shared: Pool::new(max_in_flight - reserved),
            reserved: Pool::new(reserved),
            max_in_flight,
            max_wait,
            clock,
        }
    }

    /// A permit, at once if there is one. Those who are known have a queue of their own.
    pub(super) async fn acquire(&self, is_known: bool) -> Result<SemaphorePermit<'_>, VerifyError> {
        let pool = if is_known && self.reserved.queue > 0 { &self.reserved } else { &self.shared };
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

    /// A permit for what nobody waits for, which is about a token that is known: one that is kept for these, or of the others while
    /// half of all are free, so that it keeps nobody else waiting.
    pub(super) fn try_acquire_background(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.reserved.permits).try_acquire_owned() {
            return Some(permit);
        }
        let is_idle = self.free() > self.max_in_flight / 2;
        is_idle.then(|| Arc::clone(&self.shared.permits).try_acquire_owned().ok())?
    }

    pub(super) fn in_flight(&self) -> usize {
        self.max_in_flight.saturating_sub(self.free())
    }

    pub(super) fn waiting(&self) -> usize {
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

/// A place in the queue, given back however the wait ends.
struct QueueSlot<'a>(&'a AtomicUsize);

impl<'a> QueueSlot<'a> {
    fn take(pool: &'a Pool) -> Result<Self, VerifyError> {
        let place = Self(&pool.waiting);
        if pool.waiting.fetch_add(1, Ordering::Relaxed) < pool.queue {
            Ok(place)
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
        "too many verifications are under way; see max_in_flight",
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
    async fn who_waits_gets_the_next_permit_and_who_waits_too_long_gets_none() {
        let clock = ManualClock::new();
        let limit = Limit::new(1, SECOND, clock.clock());
        let permit = limit.acquire(false).await.unwrap();
        let (next, ()) = tokio::join!(limit.acquire(false), async { drop(permit) });
        let _held = next.unwrap();
        let (late, ()) = tokio::join!(limit.acquire(true), async { clock.advance(SECOND) });
        assert_eq!(late.unwrap_err().kind(), VerifyErrorKind::Saturated);
        assert_eq!(limit.waiting(), 0);
    }

    #[tokio::test]
    async fn the_queue_is_bounded() {
        let limit = limit(1);
        let _held = limit.acquire(false).await.unwrap();
        limit.shared.waiting.store(QUEUE_FACTOR, Ordering::Relaxed);
        assert_eq!(limit.acquire(false).await.unwrap_err().kind(), VerifyErrorKind::Saturated);
        assert_eq!(limit.waiting(), QUEUE_FACTOR);
    }

    #[tokio::test]
    async fn a_quarter_is_kept_for_those_who_are_known() {
        let limit = limit(8);
        let mut strangers = Vec::new();
        for _ in 0..6 {
            strangers.push(limit.acquire(false).await.unwrap());
        }
        limit.shared.waiting.store(6 * QUEUE_FACTOR, Ordering::Relaxed);
        assert!(limit.acquire(false).await.is_err(), "the queue of strangers is full");
        let known = [limit.acquire(true).await.unwrap(), limit.acquire(true).await.unwrap()];
        assert_eq!(limit.in_flight(), 8);
        assert!(limit.try_acquire_background().is_none());
        drop(known);
        assert!(
            limit.try_acquire_background().is_some() && limit.try_acquire_background().is_some()
        );
    }

    #[tokio::test]
    async fn what_nobody_waits_for_takes_no_more_than_half() {
        for max_in_flight in [2, 4, 8, 64] {
            let limit = limit(max_in_flight);
            let spare: Vec<_> = std::iter::from_fn(|| limit.try_acquire_background()).collect();
            assert_eq!((spare.len(), limit.in_flight()), (max_in_flight / 2, max_in_flight / 2));
        }
        assert!(limit(1).try_acquire_background().is_some());
    }
}
