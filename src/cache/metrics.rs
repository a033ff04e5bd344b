//! Counters and gauges of a read-through cache.

use crate::{
    counters::Counter,
    verdict::{Outcome, Verdict},
};

/// A snapshot. The last four fields are gauges.
#[derive(Default)]
pub(crate) struct CacheMetrics {
    pub(crate) accepted: u64,
    pub(crate) rejected: u64,
    pub(crate) undecided: u64,
    pub(crate) saturated: u64,
    pub(crate) rejected_from_cache: u64,
    pub(crate) coalesced: u64,
    pub(crate) refreshed_ahead: u64,
    pub(crate) served_stale: u64,
    pub(crate) in_flight: u64,
    pub(crate) waiting: u64,
    pub(crate) accepted_entries: u64,
    pub(crate) rejected_entries: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    accepted: Counter,
    rejected: Counter,
    undecided: Counter,
    pub(super) saturated: Counter,
    pub(super) rejected_from_cache: Counter,
    pub(super) coalesced: Counter,
    pub(super) refreshed_ahead: Counter,
    pub(super) served_stale: Counter,
}

impl Counters {
    pub(super) fn count(&self, outcome: &Outcome) {
        match outcome {
            Ok(Verdict::Accept(_)) => self.accepted.increment(),
            Ok(Verdict::Reject(_)) => self.rejected.increment(),
            Err(_) => self.undecided.increment(),
        }
    }

    /// Returns the counters; the gauges are left at zero.
    pub(super) fn snapshot(&self) -> CacheMetrics {
        CacheMetrics {
            accepted: self.accepted.get(),
            rejected: self.rejected.get(),
            undecided: self.undecided.get(),
            saturated: self.saturated.get(),
            rejected_from_cache: self.rejected_from_cache.get(),
            coalesced: self.coalesced.get(),
            refreshed_ahead: self.refreshed_ahead.get(),
            served_stale: self.served_stale.get(),
            ..CacheMetrics::default()
        }
    }
}
