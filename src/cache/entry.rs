//! An accepted token in the cache: whose it is, and what its time allows.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant, SystemTime},
};

use super::lifetimes::Lifetime;
use crate::{clock::Clock, identity::ServiceAccountIdentity};

pub(super) type Stamp = u64;

/// Trouble that was met so many seconds ago still counts: longer than the time limit of a verification, so that where one attempt
/// after the other runs into it, those who come meanwhile need not wait.
const LATELY: u32 = 20;

/// What a hit finds.
pub(crate) struct Hit {
    pub(crate) identity: ServiceAccountIdentity,
    /// Most of its time is over: somebody should see to a new one.
    pub(crate) is_due: bool,
}

/// Times are on the monotonic clock, but for `expires_at`.
pub(super) struct Entry {
    pub(super) identity: ServiceAccountIdentity,
    pub(super) stamp: Stamp,
    fresh_until: Instant,
    refresh_from: Instant,
    grace: Duration,
    /// The identity's own, at hand without a second look into memory.
    expires_at: Option<SystemTime>,
    /// The last second, counted down to `fresh_until`, in which moka was told of a use.
    last_touch: AtomicU32,
    /// From which second after `refresh_from` on it may be verified anew in the background.
    next_attempt: AtomicU32,
    /// One more than the second after `refresh_from` in which that failed last; 0 if it never did.
    failed: AtomicU32,
}

impl Entry {
    pub(super) fn new(
        identity: ServiceAccountIdentity,
        stamp: Stamp,
        began: Instant,
        lifetime: Lifetime,
    ) -> Self {
        Self {
            expires_at: identity.expires_at(),
            identity,
            stamp,
            fresh_until: began + lifetime.fresh,
            refresh_from: began + lifetime.refresh_after,
            grace: lifetime.grace,
            last_touch: AtomicU32::new(u32::MAX),
            next_attempt: AtomicU32::new(0),
            failed: AtomicU32::new(0),
        }
    }

    /// A hit, unless its time is over by either clock, and whether moka is to be told of it.
    ///
    /// No lock, no allocation and no write but the reference count, save for one word once a second.
    #[inline]
    pub(super) fn hit(&self, clock: &Clock) -> Option<(Hit, bool)> {
        let now = clock.monotonic();
        let left = self.fresh_until.checked_duration_since(now).filter(|left| !left.is_zero())?;
        if self.has_expired(clock) {
            return None;
        }
        let second = u32::try_from(left.as_secs()).unwrap_or(u32::MAX);
        let is_touch_due = self.last_touch.load(Ordering::Relaxed) != second;
        if is_touch_due {
            self.last_touch.store(second, Ordering::Relaxed);
        }
        Some((
            Hit { identity: self.identity.clone(), is_due: now >= self.refresh_from },
            is_touch_due,
        ))
    }

    /// The identity, if it is fresh or within its grace; never past its `exp`.
    pub(super) fn within_grace(&self, clock: &Clock) -> Option<ServiceAccountIdentity> {
        let is_kept =
            self.fresh_until.checked_add(self.grace).is_some_and(|end| clock.monotonic() < end);
        (is_kept && !self.has_expired(clock)).then(|| self.identity.clone())
    }

    /// Whether the caller is the one to verify it anew in the background: one in a second at most, and none before a pause is
    /// over that a failure asked for.
    pub(super) fn claim_attempt(&self, now: Instant) -> bool {
        let (second, next) = (self.second(now), self.next_attempt.load(Ordering::Relaxed));
        let claimed = Ordering::Relaxed;
        second >= next
            && self
                .next_attempt
                .compare_exchange(next, second.saturating_add(1), claimed, claimed)
                .is_ok()
    }

    pub(super) fn note_failure(&self, now: Instant, pause: Duration) {
        let (second, pause) =
            (self.second(now), u32::try_from(pause.as_secs()).unwrap_or(u32::MAX));
        self.next_attempt.store(second.saturating_add(pause.max(1)), Ordering::Relaxed);
        self.failed.store(second.saturating_add(1), Ordering::Relaxed);
    }

    /// Whether the last attempt to verify it anew failed, and a short while ago.
    pub(super) fn has_failed_lately(&self, now: Instant) -> bool {
        let failed = self.failed.load(Ordering::Relaxed);
        failed != 0 && self.second(now).saturating_add(1).saturating_sub(failed) <= LATELY
    }

    fn has_expired(&self, clock: &Clock) -> bool {
        self.expires_at.is_some_and(|expiry| expiry <= clock.wall())
    }

    fn second(&self, now: Instant) -> u32 {
        u32::try_from(now.saturating_duration_since(self.refresh_from).as_secs())
            .unwrap_or(u32::MAX)
    }
}
