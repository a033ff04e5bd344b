//! A limit on log lines that requests cause, so that strangers cannot flood the log.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::lock::lock;

/// One warning of each kind in this time.
const INTERVAL: Duration = Duration::from_secs(10);

/// Admits the first line of each kind, then one in each interval.
#[derive(Debug, Default)]
pub(crate) struct WarnLimit(Mutex<Vec<Warned>>);

/// There are as many as kinds, which are few and never chosen by a caller.
#[derive(Debug)]
struct Warned {
    kind: &'static str,
    at: Instant,
    suppressed: u64,
}

impl WarnLimit {
    #[cfg(feature = "axum")]
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// Returns how many warnings of this kind were suppressed since the last one, or `None` if this
    /// one is to be suppressed too.
    pub(crate) fn admit(&self, kind: &'static str, now: Instant) -> Option<u64> {
        let mut warned = lock(&self.0);
        let Some(last) = warned.iter_mut().find(|warned| warned.kind == kind) else {
            warned.push(Warned { kind, at: now, suppressed: 0 });
            return Some(0);
        };
        if now.saturating_duration_since(last.at) < INTERVAL {
            last.suppressed = last.suppressed.saturating_add(1);
            return None;
        }
        last.at = now;
        Some(std::mem::take(&mut last.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::manual::ManualClock;

    #[test]
    fn each_kind_warns_once_in_an_interval_and_counts_the_rest() {
        let (limit, clock) = (WarnLimit::default(), ManualClock::new());
        let admit = |kind| limit.admit(kind, clock.clock().monotonic());
        assert_eq!(admit("timeout"), Some(0));
        assert_eq!([admit("timeout"), admit("timeout")], [None, None]);
        assert_eq!(admit("forbidden"), Some(0), "another kind is news");
        clock.advance(INTERVAL - Duration::from_nanos(1));
        assert_eq!(admit("timeout"), None);
        clock.advance(Duration::from_nanos(1));
        assert_eq!(admit("timeout"), Some(3));
        assert_eq!(admit("timeout"), None);
    }
}
