//! Counters and gauges of the authorizer.

use crate::cache::CacheMetrics;

/// A snapshot of a [`SubjectAccessReviewAuthorizer`](super::SubjectAccessReviewAuthorizer)'s
/// counters and gauges. The last four fields are gauges; the others start at zero and only grow.
///
/// Requests that a cached decision allows are not counted, because a counter that all threads write
/// to costs more than the decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubjectAccessReviewMetrics {
    /// Reviews that allowed, including background ones.
    pub allowed: u64,
    /// Reviews that denied.
    pub denied: u64,
    /// Reviews that reached no decision.
    pub undecided: u64,
    /// Undecided reviews that got no permit of `max_in_flight` in time, or no place in its queue.
    pub saturated: u64,
    /// Denials served from the cache.
    pub denied_from_cache: u64,
    /// Requests that joined a review already in flight.
    pub coalesced: u64,
    /// Background reviews of decisions whose cache entry ends soon.
    pub refreshed_ahead: u64,
    /// Reviews in flight.
    pub in_flight: u64,
    /// Reviews waiting for a permit.
    pub waiting: u64,
    /// Cached decisions to allow, including expired ones that are not evicted yet.
    pub allowed_entries: u64,
    /// Cached decisions to deny, approximately.
    pub denied_entries: u64,
}

impl From<CacheMetrics> for SubjectAccessReviewMetrics {
    fn from(cache: CacheMetrics) -> Self {
        Self {
            allowed: cache.accepted,
            denied: cache.rejected,
            undecided: cache.undecided,
            saturated: cache.saturated,
            denied_from_cache: cache.rejected_from_cache,
            coalesced: cache.coalesced,
            refreshed_ahead: cache.refreshed_ahead,
            in_flight: cache.in_flight,
            waiting: cache.waiting,
            allowed_entries: cache.accepted_entries,
            denied_entries: cache.rejected_entries,
        }
    }
}
