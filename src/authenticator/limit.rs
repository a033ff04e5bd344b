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

pub(super) struct Limit {
    permits: Arc<Semaphore>,
    max_in_flight: usize,
    waiting: AtomicUsize,
    queue: usize,
    max_wait: Duration,
    clock: Clock,
}

impl Limit {
    pub(super) fn new(max_in_flight: usize, max_wait: Duration, clock: Clock) -> Self {
        let queue = max_in_flight.saturating_mul(QUEUE_FACTOR);
        let permits = Arc::new(Semaphore::new(max_in_flight));
        Self { permits, max_in_flight, waiting: AtomicUsize::new(0), queue, max_wait, clock }
    }

    /// A permit, at once if there is one.
    pub(super) async fn acquire(&self) -> Result<SemaphorePermit<'_>, VerifyError> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        let _place = Place::take(self)?;
        match self.clock.timeout(self.max_wait, self.permits.acquire()).await {
            Some(Ok(permit)) => Ok(permit),
            Some(Err(_)) | None => Err(saturated()),
        }
    }

    /// A permit for what nobody waits for: only while half of them are free, so that it keeps nobody else waiting.
    pub(super) fn spare(&self) -> Option<OwnedSemaphorePermit> {
        let is_idle = self.permits.available_permits() > self.max_in_flight / 2;
        is_idle.then(|| Arc::clone(&self.permits).try_acquire_owned().ok())?
    }

    pub(super) fn in_flight(&self) -> usize {
        self.max_in_flight.saturating_sub(self.permits.available_permits())
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// A place in the queue, given back however the wait ends.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(limit: &'a Limit) -> Result<Self, VerifyError> {
        let place = Self(&limit.waiting);
        if limit.waiting.fetch_add(1, Ordering::Relaxed) < limit.queue { Ok(place) } else { Err(saturated()) }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn saturated() -> VerifyError {
    VerifyError::new(VerifyErrorKind::Saturated, "too many verifications are under way; see max_in_flight")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::manual::ManualClock;

    #[tokio::test]
    async fn who_waits_gets_the_next_permit_and_who_waits_too_long_gets_none() {
        let hands = ManualClock::new();
        let limit = Limit::new(1, Duration::from_secs(1), hands.clock());
        let permit = limit.acquire().await.unwrap();
        let (next, ()) = tokio::join!(limit.acquire(), async { drop(permit) });
        let _held = next.unwrap();
        let (late, ()) = tokio::join!(limit.acquire(), async { hands.advance(Duration::from_secs(1)) });
        assert_eq!(late.unwrap_err().kind(), VerifyErrorKind::Saturated);
        assert_eq!(limit.waiting(), 0);
    }

    #[tokio::test]
    async fn the_queue_is_bounded() {
        let limit = Limit::new(1, Duration::from_secs(1), ManualClock::new().clock());
        let _held = limit.acquire().await.unwrap();
        limit.waiting.store(QUEUE_FACTOR, Ordering::Relaxed);
        assert_eq!(limit.acquire().await.unwrap_err().kind(), VerifyErrorKind::Saturated);
        assert_eq!(limit.waiting(), QUEUE_FACTOR);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_takes_no_more_than_half() {
        let limit = Limit::new(4, Duration::from_secs(1), ManualClock::new().clock());
        let spare = [limit.spare().unwrap(), limit.spare().unwrap()];
        assert!(limit.spare().is_none());
        let _others = (limit.acquire().await.unwrap(), limit.acquire().await.unwrap());
        assert_eq!(limit.in_flight(), 4);
        drop(spare);
        assert!(limit.spare().is_none());
        assert_eq!(limit.in_flight(), 2);
        assert!(Limit::new(1, Duration::from_secs(1), ManualClock::new().clock()).spare().is_some());
    }
}
