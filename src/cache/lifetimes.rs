//! How long a decision may be served again.

use std::time::{Duration, SystemTime};

use crate::identity::ServiceAccountIdentity;

/// A tenth, either way: entries that were made together do not expire together.
const JITTER: f64 = 0.1;
/// Past so much of its time an accepted token is verified anew ahead of its end.
const REFRESH_AFTER: f64 = 0.8;

/// What was accepted by a fallback is kept for so long at most: soon after the outage the verifier itself decides again.
const FROM_FALLBACK: Duration = Duration::from_secs(10);

/// The configured lifetimes; zero keeps nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetimes {
    pub(crate) accepted: Duration,
    pub(crate) rejected: Duration,
    /// For how long after its time an accepted token may still be served while it cannot be verified anew.
    pub(crate) stale: Duration,
}

/// The lifetime of an accepted token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lifetime {
    pub(super) fresh: Duration,
    /// As long as `fresh` where a refresh gains nothing.
    pub(super) refresh_after: Duration,
}

impl Lifetimes {
    /// Jittered, and never past the token's `exp`. `None` if it may not be kept.
    pub(super) fn accepted(&self, identity: &ServiceAccountIdentity, now: SystemTime) -> Option<Lifetime> {
        let ttl = if identity.is_from_fallback() { self.accepted.min(FROM_FALLBACK) } else { jittered(self.accepted) };
        let left = identity.expires_at().map_or(ttl, |expiry| expiry.duration_since(now).unwrap_or_default());
        let lifetime = if left < ttl { Lifetime::up_to(left) } else { Lifetime::refreshed(ttl) };
        (!lifetime.fresh.is_zero()).then_some(lifetime)
    }

    pub(super) fn rejected(&self) -> Option<Duration> {
        (!self.rejected.is_zero()).then(|| jittered(self.rejected))
    }

    /// The longest time that an accepted token may be kept for.
    pub(super) fn longest_accepted(&self) -> Duration {
        self.accepted.mul_f64(1.0 + JITTER).saturating_add(self.stale)
    }

    pub(super) fn longest_rejected(&self) -> Duration {
        self.rejected.mul_f64(1.0 + JITTER)
    }
}

impl Lifetime {
    fn refreshed(ttl: Duration) -> Self {
        Self { fresh: ttl, refresh_after: ttl.mul_f64(REFRESH_AFTER) }
    }

    /// Ends with `exp`, say, which no refresh would change.
    pub(super) fn up_to(end: Duration) -> Self {
        Self { fresh: end, refresh_after: end }
    }
}

fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(1.0 - JITTER + 2.0 * JITTER * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::testing::IdentityBuilder;

    const LIFETIMES: Lifetimes =
        Lifetimes { accepted: Duration::from_secs(60), rejected: Duration::ZERO, stale: Duration::from_secs(600) };

    #[test]
    fn jitter_stays_within_a_tenth_and_spreads() {
        let identity = IdentityBuilder::new("ns", "sa").build();
        let drawn: Vec<_> = (0..1000).filter_map(|_| LIFETIMES.accepted(&identity, UNIX_EPOCH)).collect();
        assert_eq!(drawn.len(), 1000);
        assert!(drawn.iter().all(|life| (54..=66).contains(&life.fresh.as_secs())));
        assert!(drawn.iter().all(|life| life.fresh + LIFETIMES.stale <= LIFETIMES.longest_accepted()));
        assert!(drawn.iter().all(|life| life.refresh_after == life.fresh.mul_f64(0.8)));
        let seconds = || drawn.iter().map(|life| life.fresh.as_secs());
        assert!(seconds().min().unwrap() < 57 && seconds().max().unwrap() > 62);
    }

    #[test]
    fn exp_is_the_end_whatever_the_jitter_and_is_not_refreshed() {
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        let until = |expiry| LIFETIMES.accepted(&IdentityBuilder::new("ns", "sa").expires_at(expiry).build(), now);
        for _ in 0..100 {
            let fifty = Duration::from_secs(50);
            assert_eq!(until(now + fifty), Some(Lifetime { fresh: fifty, refresh_after: fifty }));
        }
        assert_eq!(until(now), None);
        assert_eq!(until(UNIX_EPOCH), None);
        assert_eq!(LIFETIMES.rejected(), None);
    }

    #[test]
    fn what_a_fallback_accepted_is_kept_for_ten_seconds_at_most() {
        let identity = IdentityBuilder::new("ns", "sa").from_fallback().build();
        let kept = |accepted| Lifetimes { accepted, ..LIFETIMES }.accepted(&identity, UNIX_EPOCH).unwrap().fresh;
        assert_eq!(kept(Duration::from_secs(60)), Duration::from_secs(10));
        assert_eq!(kept(Duration::from_secs(3)), Duration::from_secs(3));
    }
}
