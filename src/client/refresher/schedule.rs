//! The time of the next fetch.

use std::time::Duration;

use crate::backoff::jittered;

/// kubelet's rule for projected tokens: at this fraction of the lifetime, and after a day at most.
const REFRESH_AFTER: f64 = 0.8;
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// Fraction of the wait by which a fetch comes early at most.
const JITTER: f64 = 0.05;
/// client-go re-reads a token file every minute.
const REREAD: Duration = Duration::from_secs(60);
/// Lower bound, for lifetimes that are nearly over.
const SHORTEST: Duration = Duration::from_secs(1);

/// Returns the time until a token with this `lifetime` is replaced.
pub(in crate::client) fn refresh_after(lifetime: Duration) -> Duration {
    early(lifetime.mul_f64(REFRESH_AFTER).min(LONGEST))
}

/// Returns the time until a file is read again whose token has this `lifetime` left, if that is
/// known: half of it, and a minute at most.
pub(in crate::client) fn reread_after(lifetime: Option<Duration>) -> Duration {
    early(lifetime.map_or(REREAD, |lifetime| (lifetime / 2).min(REREAD)))
}

fn early(wait: Duration) -> Duration {
    jittered(wait, 1.0 - JITTER..1.0).max(SHORTEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_within(draw: impl Fn() -> Duration, shortest: u64, longest: u64) {
        for _ in 0..200 {
            let drawn = draw().as_secs_f64();
            assert!((shortest as f64..=longest as f64).contains(&drawn), "{drawn}");
        }
    }

    #[test]
    fn a_token_is_refreshed_at_80_percent_of_its_life_or_a_little_earlier() {
        assert_within(|| refresh_after(Duration::from_secs(3600)), 2736, 2880);
        assert_within(|| refresh_after(Duration::from_secs(600)), 456, 480);
    }

    #[test]
    fn a_token_is_refreshed_after_24_hours_at_most() {
        assert_within(|| refresh_after(Duration::from_secs(365 * 86_400)), 82_080, 86_400);
        assert_within(|| refresh_after(Duration::MAX), 82_080, 86_400);
    }

    #[test]
    fn a_file_is_re_read_every_minute_and_on_half_of_the_remaining_life() {
        assert_within(|| reread_after(None), 57, 60);
        assert_within(|| reread_after(Some(Duration::from_secs(3600))), 57, 60);
        assert_within(|| reread_after(Some(Duration::from_secs(20))), 9, 10);
        assert_within(|| reread_after(Some(Duration::ZERO)), 1, 1);
    }
}
