//! Pauses between attempts: jitter and exponential back-off.

use std::{ops::Range, time::Duration};

/// Returns `duration` times a random factor from `factors`, so that replicas that started together
/// do not act together.
pub(crate) fn jittered(duration: Duration, factors: Range<f64>) -> Duration {
    let Range { start, end } = factors;
    duration.mul_f64(start + (end - start) * fastrand::f64())
}

/// Exponential back-off with jitter.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    /// Factor from one pause to the next.
    pub(crate) growth: f64,
    /// Upper bound for a pause, before the jitter.
    pub(crate) longest: Duration,
    /// Factors of the jitter.
    pub(crate) jitter: Range<f64>,
}

impl Backoff {
    /// Returns the pause after so many failures in a row.
    pub(crate) fn pause(&self, failures: u32) -> Duration {
        let exponent = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.first.as_secs_f64() * self.growth.powi(exponent);
        let pause = Duration::from_secs_f64(seconds.min(self.longest.as_secs_f64()));
        jittered(pause, self.jitter.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn jitter_stays_between_its_factors_and_spreads() {
        let drawn: Vec<_> = (0..1000).map(|_| jittered(SECOND * 100, 0.9..1.1)).collect();
        let (shortest, longest) = (*drawn.iter().min().unwrap(), *drawn.iter().max().unwrap());
        assert!(shortest >= SECOND * 90 && longest <= SECOND * 110);
        assert!(shortest < SECOND * 95 && longest > SECOND * 105);
    }

    #[test]
    fn back_off_grows_up_to_its_limit() {
        let backoff =
            Backoff { first: SECOND, growth: 2.0, longest: 30 * SECOND, jitter: 1.0..1.0 };
        let pauses: Vec<u64> = (1..8).map(|n| backoff.pause(n).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        let early = Backoff { jitter: 0.75..0.75, ..backoff };
        assert_eq!(early.pause(u32::MAX), Duration::from_millis(22_500));
    }
}
