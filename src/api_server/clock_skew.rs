//! How far the API server's clock is from this service's.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header};
use jiff::SignedDuration;

/// `Date` has whole seconds.
const GRANULARITY: Duration = Duration::from_secs(1);

/// Compares the `Date` of a response with the time between request and response. Returns how far the
/// API server's clock is ahead; zero if they may agree, `None` without a readable `Date`.
pub(super) fn clock_skew(
    headers: &HeaderMap,
    sent: SystemTime,
    received: SystemTime,
) -> Option<SignedDuration> {
    let date = headers.get(header::DATE)?.as_bytes();
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok()?;
    let date = SystemTime::from(date);
    let behind = sent.duration_since(date + GRANULARITY).unwrap_or_default();
    let ahead = date.duration_since(received).unwrap_or_default();
    let [behind, ahead] = [behind, ahead].map(|skew| SignedDuration::try_from(skew).ok());
    ahead?.checked_sub(behind?)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use http::HeaderValue;

    use super::*;

    /// The skew, in milliseconds, of a response of second 1 000 to a request at `sent`.
    fn skew(sent: u64, received: u64) -> Option<i128> {
        let mut headers = HeaderMap::new();
        let date = HeaderValue::from_static("Thu, 01 Jan 1970 00:16:40 GMT");
        headers.insert(header::DATE, date);
        let at = |milliseconds| UNIX_EPOCH + Duration::from_millis(milliseconds);
        clock_skew(&headers, at(sent), at(received)).map(|skew| skew.as_millis())
    }

    #[test]
    fn clocks_agree_within_the_round_trip_and_the_second_of_the_date() {
        for (sent, received) in
            [(1_000_000, 1_000_100), (1_000_999, 1_001_500), (995_000, 1_000_000)]
        {
            assert_eq!(skew(sent, received), Some(0), "{sent} {received}");
        }
    }

    #[test]
    fn the_sign_tells_whose_clock_is_ahead() {
        assert_eq!(skew(989_000, 990_000), Some(10_000), "the API server's");
        assert_eq!(skew(1_011_000, 1_012_000), Some(-10_000), "this service's");
    }

    #[test]
    fn without_a_readable_date_there_is_no_skew() {
        let mut headers = HeaderMap::new();
        assert_eq!(clock_skew(&headers, UNIX_EPOCH, UNIX_EPOCH), None);
        headers.insert(header::DATE, HeaderValue::from_static("yesterday"));
        assert_eq!(clock_skew(&headers, UNIX_EPOCH, UNIX_EPOCH), None);
    }
}
