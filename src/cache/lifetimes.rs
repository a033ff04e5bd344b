//! How long a decision may be served again.

use std::time::{Duration, SystemTime};

/// A tenth, either way: entries that were made together do not expire together.
const JITTER: f64 = 0.1;

/// The configured lifetimes; zero keeps nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetimes {
    pub(crate) accepted: Duration,
    pub(crate) rejected: Duration,
}

impl Lifetimes {
    /// The lifetime of an accepted token: jittered, and never past its `exp`. `None` if it may not be kept.
    pub(crate) fn accepted(&self, expires_at: Option<SystemTime>, now: SystemTime) -> Option<Duration> {
        let lifetime = jittered(self.accepted);
        let left = match expires_at {
            Some(expiry) => lifetime.min(expiry.duration_since(now).unwrap_or_default()),
            None => lifetime,
        };
        (!left.is_zero()).then_some(left)
    }

    pub(crate) fn rejected(&self) -> Option<Duration> {
        (!self.rejected.is_zero()).then(|| jittered(self.rejected))
    }

    pub(crate) fn longest_accepted(&self) -> Duration {
        self.accepted.mul_f64(1.0 + JITTER)
    }

    pub(crate) fn longest_rejected(&self) -> Duration {
        self.rejected.mul_f64(1.0 + JITTER)
    }
}

fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(1.0 - JITTER + 2.0 * JITTER * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn jitter_stays_within_a_tenth_and_spreads() {
        let lifetimes = Lifetimes { accepted: Duration::from_secs(60), rejected: Duration::from_secs(10) };
        let drawn: Vec<_> = (0..1000).filter_map(|_| lifetimes.accepted(None, UNIX_EPOCH)).collect();
        assert_eq!(drawn.len(), 1000);
        assert!(drawn.iter().all(|life| (54..=66).contains(&life.as_secs()) && *life <= lifetimes.longest_accepted()));
        assert!(drawn.iter().min().unwrap().as_secs() < 57 && drawn.iter().max().unwrap().as_secs() > 62);
    }

    #[test]
    fn exp_is_the_end_whatever_the_jitter() {
        let lifetimes = Lifetimes { accepted: Duration::from_secs(60), rejected: Duration::ZERO };
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        for _ in 0..100 {
            let life = lifetimes.accepted(Some(now + Duration::from_secs(50)), now);
            assert_eq!(life, Some(Duration::from_secs(50)));
        }
        assert_eq!(lifetimes.accepted(Some(now), now), None);
        assert_eq!(lifetimes.accepted(Some(UNIX_EPOCH), now), None);
        assert_eq!(lifetimes.rejected(), None);
    }
}
