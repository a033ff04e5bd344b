//! When to get the next token. Pure, with the jitter as an argument, so that the limits can be tested.

use std::time::Duration;

/// kubelet's rules for projected tokens: at 80 % of the life, and after a day at most.
const SHARE_OF_LIFE: f64 = 0.8;
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// A refresh comes up to this share of the wait early, so that replicas that started together do not ask together.
const JITTER: f64 = 0.05;
/// client-go re-reads a token file every minute.
const REREAD: Duration = Duration::from_secs(60);
/// However short a life is, there is a pause.
const SHORTEST: Duration = Duration::from_secs(1);

/// After which time a token with `life` left is to be replaced. `jitter` is from 0 to 1.
pub(in crate::client) fn refresh_after(life: Duration, jitter: f64) -> Duration {
    early(life.mul_f64(SHARE_OF_LIFE).min(LONGEST), jitter)
}

/// After which time a file is to be read again, whose token has `life` left, if that is known: half of it, and a
/// minute at most. `jitter` is from 0 to 1.
pub(in crate::client) fn reread_after(life: Option<Duration>, jitter: f64) -> Duration {
    early(life.map_or(REREAD, |life| (life / 2).min(REREAD)), jitter)
}

fn early(wait: Duration, jitter: f64) -> Duration {
    wait.mul_f64(1.0 - JITTER * jitter).max(SHORTEST)
}

/// How long to wait after failures: doubling, between `shortest` and `longest`, and up to a quarter earlier.
pub(super) fn back_off(
    failures: u32,
    shortest: Duration,
    longest: Duration,
    jitter: f64,
) -> Duration {
    let doubled = shortest.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1).min(16)));
    doubled.min(longest).mul_f64(1.0 - 0.25 * jitter)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_token_is_refreshed_at_80_percent_of_its_life_or_a_little_earlier() {
        assert_eq!(refresh_after(seconds(3600), 0.0), seconds(2880));
        assert_eq!(refresh_after(seconds(3600), 1.0), seconds(2736));
        assert_eq!(refresh_after(seconds(600), 0.0), seconds(480));
    }

    #[test]
    fn a_token_is_refreshed_after_24_hours_at_most() {
        assert_eq!(refresh_after(seconds(365 * 86_400), 0.0), seconds(86_400));
        assert!(refresh_after(Duration::MAX, 1.0) < seconds(86_400));
    }

    #[test]
    fn a_file_is_re_read_every_minute_and_on_half_of_the_remaining_life() {
        assert_eq!(reread_after(None, 0.0), seconds(60));
        assert_eq!(reread_after(Some(seconds(3600)), 0.0), seconds(60));
        assert_eq!(reread_after(Some(seconds(3600)), 1.0), seconds(57));
        assert_eq!(reread_after(Some(seconds(20)), 0.0), seconds(10));
        assert_eq!(reread_after(Some(Duration::ZERO), 1.0), seconds(1), "never in a busy loop");
    }

    #[test]
    fn back_off_doubles_up_to_its_limit() {
        let pauses: Vec<u64> =
            (1..8).map(|n| back_off(n, seconds(1), seconds(30), 0.0).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(back_off(u32::MAX, seconds(1), seconds(30), 1.0), Duration::from_millis(22_500));
    }
}
