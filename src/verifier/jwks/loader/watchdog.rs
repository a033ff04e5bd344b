//! A watchdog timer: detects that the periodic refresh has stopped, because nothing drives the
//! runtime of its task any more.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use crate::clock::Clock;

/// Expires unless it is reset within its limit. Each fetch resets it, whoever begins it.
pub(super) struct Watchdog {
    clock: Clock,
    limit: Duration,
    created: Instant,
    /// Milliseconds from `created` to the last reset. An atomic, because every token reads it.
    last_reset: AtomicU64,
}

impl Watchdog {
    pub(super) fn new(limit: Duration, clock: Clock) -> Self {
        let created = clock.monotonic();
        Self { clock, limit, created, last_reset: AtomicU64::new(0) }
    }

    pub(super) fn reset(&self) {
        self.last_reset.store(self.elapsed(), Ordering::Relaxed);
    }

    pub(super) fn has_expired(&self) -> bool {
        self.is_expired_since(self.last_reset.load(Ordering::Relaxed))
    }

    /// Resets the watchdog if it has expired, and returns whether it had. Of concurrent callers,
    /// one gets `true`.
    pub(super) fn reset_if_expired(&self) -> bool {
        let last_reset = self.last_reset.load(Ordering::Relaxed);
        let (now, relaxed) = (self.elapsed(), Ordering::Relaxed);
        self.is_expired_since(last_reset)
            && self.last_reset.compare_exchange(last_reset, now, relaxed, relaxed).is_ok()
    }

    fn is_expired_since(&self, last_reset: u64) -> bool {
        Duration::from_millis(self.elapsed().saturating_sub(last_reset)) > self.limit
    }

    fn elapsed(&self) -> u64 {
        let elapsed = self.clock.monotonic().saturating_duration_since(self.created);
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::manual::ManualClock;

    #[test]
    fn it_expires_after_its_limit_and_one_caller_resets_it() {
        let (clock, limit) = (ManualClock::new(), Duration::from_secs(10));
        let watchdog = Watchdog::new(limit, clock.clock());
        clock.advance(limit);
        assert!(!watchdog.has_expired());
        clock.advance(Duration::from_millis(1));
        assert!(watchdog.has_expired());
        assert_eq!([watchdog.reset_if_expired(), watchdog.reset_if_expired()], [true, false]);
        clock.advance(limit);
        watchdog.reset();
        clock.advance(limit);
        assert!(!watchdog.has_expired());
    }
}
