//! A cached acceptance: its identity and its lifetime.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant, SystemTime},
};

use super::lifetimes::Lifetime;
use crate::{clock::Clock, identity::ServiceAccountIdentity};

pub(super) type Stamp = u64;

/// How long a failure counts as recent, in seconds. Longer than a verification's time limit, so
/// that no request waits while successive attempts time out.
const RECENT: u32 = 20;

/// A fresh acceptance.
pub(crate) struct Hit {
    pub(crate) identity: ServiceAccountIdentity,
    /// Most of the lifetime has passed: a background verification is due.
    pub(crate) is_due: bool,
    /// The entry was not used in this second before: what is done once a second is due.
    pub(crate) is_touch_due: bool,
}

/// All times are monotonic, except `expires_at`.
pub(super) struct Entry {
    pub(super) identity: ServiceAccountIdentity,
    pub(super) stamp: Stamp,
    fresh_until: Instant,
    refresh_from: Instant,
    grace: Duration,
    /// A copy of the identity's, to save a hit one indirection.
    expires_at: Option<SystemTime>,
    /// When moka was last told of a use, in seconds before `fresh_until`.
    last_touch: AtomicU32,
    /// Earliest time of the next background verification, in seconds after `refresh_from`.
    next_attempt: AtomicU32,
    /// Time of the last failed one, in seconds after `refresh_from`, plus one; 0 if none failed.
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

    /// Returns a hit while the entry is fresh by both clocks.
    ///
    /// Takes no lock, allocates nothing, and writes only the reference count, and one word per
    /// second.
    #[inline]
    pub(super) fn hit(&self, clock: &Clock) -> Option<Hit> {
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
        let is_due = now >= self.refresh_from;
        Some(Hit { identity: self.identity.clone(), is_due, is_touch_due })
    }

    /// Returns the identity while the entry is fresh or within its grace period, but not past
    /// `exp`.
    pub(super) fn within_grace(&self, clock: &Clock) -> Option<ServiceAccountIdentity> {
        let is_within_grace =
            self.fresh_until.checked_add(self.grace).is_some_and(|end| clock.monotonic() < end);
        (is_within_grace && !self.has_expired(clock)).then(|| self.identity.clone())
    }

    /// Claims a background verification: true for at most one caller a second, and for none during
    /// the pause after a failure.
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

    /// Whether the last background verification failed, at most [`RECENT`] seconds ago.
    pub(super) fn has_failed_recently(&self, now: Instant) -> bool {
        let failed = self.failed.load(Ordering::Relaxed);
        failed != 0 && self.second(now).saturating_add(1).saturating_sub(failed) <= RECENT
    }

    fn has_expired(&self, clock: &Clock) -> bool {
        self.expires_at.is_some_and(|expiry| expiry <= clock.wall())
    }

    fn second(&self, now: Instant) -> u32 {
        u32::try_from(now.saturating_duration_since(self.refresh_from).as_secs())
            .unwrap_or(u32::MAX)
    }
}
