//! The limit on concurrent loads, with a bounded queue in front of it.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::caller_shares::{CallerShares, CallerSlot};
use crate::{
    clock::Clock,
    error::{VerifyError, VerifyErrorKind},
};

/// Queue places per permit.
const QUEUE_FACTOR: usize = 16;
/// One permit in this many is reserved for keys that were accepted before, so that a flood of
/// unknown keys does not displace known callers.
const RESERVED_SHARE: usize = 4;
/// One shared permit in this many is for the loads of one caller, and the same part of the queue.
const CALLER_SHARE: usize = 4;

pub(crate) struct Limit {
    shared: Pool,
    reserved: Pool,
    caller_shares: CallerShares,
    max_in_flight: usize,
    max_wait: Duration,
    clock: Clock,
}

/// Permits one load. Released on drop.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    _permit: SemaphorePermit<'a>,
    _of_caller: Option<(OwnedSemaphorePermit, CallerSlot<'a>)>,
}

struct Pool {
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    queue: usize,
}

impl Limit {
    pub(crate) fn new(max_in_flight: usize, max_wait: Duration, clock: Clock) -> Self {
        let reserved = (max_in_flight / RESERVED_SHARE).max(1);
        let shared = max_in_flight.saturating_sub(reserved);
        let of_caller = (shared / CALLER_SHARE).max(1);
        Self {
            shared: Pool::new(shared),
            reserved: Pool::new(reserved),
            caller_shares: CallerShares::new(of_caller, of_caller.saturating_mul(QUEUE_FACTOR)),
            max_in_flight,
            max_wait,
            clock,
        }
    }

    /// Returns a permit, waiting for at most `max_wait`. Loads about known keys have a queue of
    /// their own. With the uid of a `caller`, the load takes a place in this caller's share first:
    /// a caller that has used up its own share takes no permit and no place in the queue from
    /// others.
    pub(crate) async fn acquire(
        &self,
        is_known: bool,
        caller: Option<&str>,
    ) -> Result<Permit<'_>, VerifyError> {
        let slot = match caller {
            Some(uid) => {
                Some(self.caller_shares.enter(uid, is_known).ok_or_else(caller_saturated)?)
            }
            None => None,
        };
        let pool = if is_known { &self.reserved } else { &self.shared };
        let acquired = match &slot {
            None => self.try_acquire(pool).map(|permit| (permit, None)),
            Some(slot) => slot
                .try_acquire()
                .and_then(|of_caller| Some((self.try_acquire(pool)?, Some(of_caller)))),
        };
        let (permit, of_caller) = match acquired {
            Some(acquired) => acquired,
            None => {
                let _slot = QueueSlot::take(pool)?;
                let waiting = async {
                    let of_caller = match &slot {
                        Some(slot) => Some(slot.acquire().await?),
                        None => None,
                    };
                    Ok::<_, AcquireError>((self.next(is_known).await?, of_caller))
                };
                // Boxed to keep the future of a load that does not wait small.
                match Box::pin(self.clock.timeout(self.max_wait, waiting)).await {
                    Some(Ok(acquired)) => acquired,
                    Some(Err(_)) | None => return Err(saturated()),
                }
            }
        };
        Ok(Permit { _permit: permit, _of_caller: of_caller.zip(slot) })
    }

    fn try_acquire<'a>(&'a self, pool: &'a Pool) -> Option<SemaphorePermit<'a>> {
        [&self.shared, pool].into_iter().find_map(|pool| pool.permits.try_acquire().ok())
    }

    /// Waits for a permit of the pools that are open to the key.
    async fn next(&self, is_known: bool) -> Result<SemaphorePermit<'_>, AcquireError> {
        if !is_known {
            return self.shared.permits.acquire().await;
        }
        let mut reserved = pin!(self.reserved.permits.acquire());
        let mut shared = pin!(self.shared.permits.acquire());
        // What is acquired by the one that is dropped goes back to its pool.
        poll_fn(|cx| match reserved.as_mut().poll(cx) {
            Poll::Pending => shared.as_mut().poll(cx),
            acquired => acquired,
        })
        .await
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

fn caller_saturated() -> VerifyError {
    VerifyError::new(
        VerifyErrorKind::Saturated,
        "too many decisions about this caller are in flight; see max_in_flight",
    )
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Waker},
    };

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
        let permit = limit.acquire(false, None).await.unwrap();
        let (next, ()) = tokio::join!(limit.acquire(false, None), async { drop(permit) });
        let _held = next.unwrap();
        let (late, ()) = tokio::join!(limit.acquire(false, None), async { clock.advance(SECOND) });
        assert_eq!(late.unwrap_err().kind(), VerifyErrorKind::Saturated);
        assert_eq!(limit.waiting(), 0);
    }

    #[tokio::test]
    async fn the_queue_is_bounded() {
        let limit = limit(2);
        let _held = limit.acquire(false, None).await.unwrap();
        limit.shared.waiting.store(QUEUE_FACTOR, Ordering::Relaxed);
        assert_eq!(
            limit.acquire(false, None).await.unwrap_err().kind(),
            VerifyErrorKind::Saturated
        );
        assert_eq!(limit.waiting(), QUEUE_FACTOR);
    }

    #[tokio::test]
    async fn a_quarter_is_reserved_for_known_tokens() {
        let limit = limit(8);
        let mut unknown = Vec::new();
        for _ in 0..6 {
            unknown.push(limit.acquire(false, None).await.unwrap());
        }
        limit.shared.waiting.store(6 * QUEUE_FACTOR, Ordering::Relaxed);
        assert!(limit.acquire(false, None).await.is_err(), "the queue of unknown tokens is full");
        let known =
            [limit.acquire(true, None).await.unwrap(), limit.acquire(true, None).await.unwrap()];
        assert_eq!(limit.in_flight(), 8);
        assert!(limit.try_acquire_background().is_none());
        drop(known);
        assert!(
            limit.try_acquire_background().is_some() && limit.try_acquire_background().is_some()
        );
    }

    fn poll<F: Future>(future: Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn a_caller_beyond_its_share_is_saturated_and_no_other_one() {
        let limit = limit(64);
        let acquire = |caller| Box::pin(limit.acquire(false, Some(caller)));
        let held: Vec<_> = (0..12).map(|_| poll(acquire("a").as_mut()).unwrap().unwrap()).collect();
        let mut waiting: Vec<_> = (0..12 * QUEUE_FACTOR).map(|_| acquire("a")).collect();
        for waits in &mut waiting {
            assert!(poll(waits.as_mut()).is_none(), "for a permit of the caller's own");
        }
        let beyond = poll(acquire("a").as_mut()).unwrap().map(drop).unwrap_err();
        assert_eq!(beyond.kind(), VerifyErrorKind::Saturated);
        assert_eq!((limit.in_flight(), limit.waiting()), (12, 12 * QUEUE_FACTOR));
        assert!(poll(acquire("b").as_mut()).unwrap().is_ok());
        let known = poll(pin!(limit.acquire(true, Some("a")))).unwrap();
        assert!(known.is_ok(), "known keys have permits of their own");
        drop(held);
        assert!(poll(waiting[0].as_mut()).unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_known_key_in_the_queue_takes_the_first_permit_of_either_pool() {
        for is_shared_first in [true, false] {
            let limit = limit(2);
            let shared = limit.acquire(true, None).await.unwrap();
            let reserved = limit.acquire(true, None).await.unwrap();
            let mut waiting = pin!(limit.acquire(true, None));
            assert!(poll(waiting.as_mut()).is_none());
            let (first, _held) =
                if is_shared_first { (shared, reserved) } else { (reserved, shared) };
            drop(first);
            assert!(poll(waiting.as_mut()).unwrap().is_ok(), "shared: {is_shared_first}");
        }
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
