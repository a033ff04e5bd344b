//! Percentiles of measured times.

use std::{fmt, time::Duration};

pub(crate) struct Latencies {
    sorted: Vec<Duration>,
}

impl Latencies {
    pub(crate) const HEADING: &'static str = "deletions        p50        p99        max";

    pub(crate) fn new(mut measured: Vec<Duration>) -> Self {
        measured.sort_unstable();
        Self { sorted: measured }
    }

    /// Returns the smallest time that is not exceeded by `percent` of all (nearest rank).
    fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.sorted.len() * percent).div_ceil(100).max(1);
        self.sorted[rank - 1]
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>9}", self.sorted.len())?;
        [50, 99, 100]
            .map(|percent| self.percentile(percent).as_secs_f64() * 1000.0)
            .iter()
            .try_for_each(|milliseconds| write!(f, " {milliseconds:>10.1}"))
    }
}
