//! The lifetimes of cached decisions.

use std::time::{Duration, SystemTime};

use crate::{backoff, identity::ServiceAccountIdentity};

/// Fraction by which a TTL varies either way, so that entries made together do not expire together.
const JITTER: f64 = 0.1;
/// Fraction of its TTL after which an accepted token is verified anew in the background.
const REFRESH_AFTER: f64 = 0.8;

/// Upper bound for the TTL of an acceptance by a fallback: soon after an outage, the verifier
/// itself decides again.
const FROM_FALLBACK: Duration = Duration::from_secs(10);

/// The configured TTLs. Zero turns a cache off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetimes {
    pub(crate) accepted: Duration,
    pub(crate) rejected: Duration,
    /// How long past its TTL an accepted token may be served while the verifier fails.
    pub(crate) stale: Duration,
}

/// The lifetime of an accepted token, counted from the start of its verification, because the
/// verdict describes that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lifetime {
    pub(super) fresh: Duration,
    /// Equal to `fresh` where a refresh gains nothing.
    pub(super) refresh_after: Duration,
    /// How long past `fresh` it may be served while the verifier fails.
    pub(super) grace: Duration,
}

impl Lifetimes {
    /// Returns the lifetime of an acceptance whose verification took `elapsed`: jittered, and never
    /// past the token's `exp`.
    pub(super) fn accepted(
        &self,
        identity: &ServiceAccountIdentity,
        now: SystemTime,
        elapsed: Duration,
    ) -> Lifetime {
        let (ttl, grace) = if identity.is_from_fallback() {
            // A fallback is itself a substitute for the verifier.
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

    /// Returns the upper bound for how long an accepted token is kept.
    pub(super) fn max_accepted(&self) -> Duration {
        self.accepted.mul_f64(1.0 + JITTER).saturating_add(self.stale)
    }

    pub(super) fn max_rejected(&self) -> Duration {
        self.rejected.mul_f64(1.0 + JITTER)
    }
}

impl Lifetime {
    /// Ends the lifetime at `end` at the latest, without refresh or grace period.
    pub(super) fn up_to(self, end: Duration) -> Self {
        let fresh = self.fresh.min(end);
        Self { fresh, refresh_after: fresh, grace: Duration::ZERO }
    }

    /// Shortens the TTL to `end`.
    pub(super) fn fresh_up_to(self, end: Duration) -> Self {
        if self.fresh <= end {
            return self;
        }
        let refresh_after = self.refresh_after.min(end.mul_f64(REFRESH_AFTER));
        Self { fresh: end, refresh_after, ..self }
    }
}

/// Varies `duration` by up to [`JITTER`] either way.
fn jittered(duration: Duration) -> Duration {
    backoff::jittered(duration, 1.0 - JITTER..1.0 + JITTER)
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
        assert!(drawn.iter().all(|life| life.fresh + life.grace <= LIFETIMES.max_accepted()));
        assert!(drawn.iter().all(|life| life.refresh_after == life.fresh.mul_f64(0.8)));
        let seconds = || drawn.iter().map(|life| life.fresh.as_secs());
        assert!(seconds().min().unwrap() < 57 && seconds().max().unwrap() > 62);
    }

    #[test]
    fn exp_ends_the_lifetime_whatever_the_jitter_and_is_not_refreshed() {
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
    fn a_verifier_can_shorten_the_ttl_but_not_extend_it() {
        let life = Lifetime { fresh: 60 * SECOND, refresh_after: 48 * SECOND, grace: SECOND };
        assert_eq!(life.fresh_up_to(61 * SECOND), life);
        let shortened = Lifetime { fresh: 10 * SECOND, refresh_after: 8 * SECOND, grace: SECOND };
        assert_eq!(life.fresh_up_to(10 * SECOND), shortened);
    }

    #[test]
    fn an_acceptance_by_a_fallback_lives_for_ten_seconds_without_grace() {
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
