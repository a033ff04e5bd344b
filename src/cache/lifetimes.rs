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

/// The lifetime of an accepted token, from when its verification began: what it says was so then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lifetime {
    pub(super) fresh: Duration,
    /// As long as `fresh` where a refresh gains nothing.
    pub(super) refresh_after: Duration,
    /// For how long after that it may be served while it cannot be verified anew.
    pub(super) grace: Duration,
}

impl Lifetimes {
    /// Jittered, and never past the token's `exp`, for a verification that has taken `elapsed`.
    pub(super) fn accepted(
        &self,
        identity: &ServiceAccountIdentity,
        now: SystemTime,
        elapsed: Duration,
    ) -> Lifetime {
        let (ttl, grace) = if identity.is_from_fallback() {
            // It stands in for the verifier already.
            (self.accepted.min(FROM_FALLBACK), Duration::ZERO)
        } else {
            (jittered(self.accepted), self.stale)
        };
        let expires = identity
            .expires_at()
            .map(|expiry| expiry.duration_since(now).unwrap_or_default() + elapsed);
        match expires {
            Some(end) if end < ttl => Lifetime { fresh: end, refresh_after: end, grace },
            _ => Lifetime { fresh: ttl, refresh_after: ttl.mul_f64(REFRESH_AFTER), grace },
        }
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
    /// The same, but over at `end`, for good.
    pub(super) fn up_to(self, end: Duration) -> Self {
        let fresh = self.fresh.min(end);
        Self { fresh, refresh_after: fresh, grace: Duration::ZERO }
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

    const SECOND: Duration = Duration::from_secs(1);
    const LIFETIMES: Lifetimes = Lifetimes {
        accepted: Duration::from_secs(60),
        rejected: Duration::ZERO,
        stale: Duration::from_secs(600),
    };

    #[test]
    fn jitter_stays_within_a_tenth_and_spreads() {
        let identity = IdentityBuilder::new("ns", "sa").build();
        let drawn: Vec<_> =
            (0..1000).map(|_| LIFETIMES.accepted(&identity, UNIX_EPOCH, Duration::ZERO)).collect();
        assert!(drawn.iter().all(|life| (54..=66).contains(&life.fresh.as_secs())));
        assert!(drawn.iter().all(|life| life.fresh + life.grace <= LIFETIMES.longest_accepted()));
        assert!(drawn.iter().all(|life| life.refresh_after == life.fresh.mul_f64(0.8)));
        let seconds = || drawn.iter().map(|life| life.fresh.as_secs());
        assert!(seconds().min().unwrap() < 57 && seconds().max().unwrap() > 62);
    }

    #[test]
    fn exp_is_the_end_whatever_the_jitter_and_is_not_refreshed() {
        let now = UNIX_EPOCH + 1000 * SECOND;
        let until = |expiry, elapsed| {
            LIFETIMES.accepted(
                &IdentityBuilder::new("ns", "sa").expires_at(expiry).build(),
                now,
                elapsed,
            )
        };
        for _ in 0..100 {
            for elapsed in [Duration::ZERO, 3 * SECOND] {
                let lifetime = until(now + 40 * SECOND, elapsed);
                assert_eq!(
                    (lifetime.fresh, lifetime.refresh_after),
                    (40 * SECOND + elapsed, 40 * SECOND + elapsed)
                );
            }
        }
        assert_eq!(until(now, Duration::ZERO).fresh, Duration::ZERO);
        assert_eq!(until(UNIX_EPOCH, SECOND).fresh, SECOND, "which has passed");
        assert_eq!(LIFETIMES.rejected(), None);
    }

    #[test]
    fn what_a_fallback_accepted_is_kept_for_ten_seconds_at_most_and_has_no_grace() {
        let identity = IdentityBuilder::new("ns", "sa").from_fallback().build();
        let kept = |accepted| {
            Lifetimes { accepted, ..LIFETIMES }.accepted(&identity, UNIX_EPOCH, Duration::ZERO)
        };
        assert_eq!(
            (kept(60 * SECOND).fresh, kept(60 * SECOND).grace),
            (10 * SECOND, Duration::ZERO)
        );
        assert_eq!(kept(3 * SECOND).fresh, 3 * SECOND);
    }
}
