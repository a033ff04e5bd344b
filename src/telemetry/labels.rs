//! What is recorded about.

/// What a decision is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Who the caller is.
    Authentication,
    /// What the caller may do.
    Authorization,
}

/// What a gauge shows.
#[cfg_attr(not(feature = "jwks"), allow(dead_code, reason = "there are no keys"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Accepted tokens in the cache.
    AcceptedEntries,
    /// Rejected tokens in the cache.
    RejectedEntries,
    /// Verifications in flight.
    InFlight,
    /// Verifications that wait for a permit.
    Waiting,
    /// Usable keys that are loaded.
    Keys,
    /// Fallbacks that decide because their verifier is unavailable.
    ActiveFallbacks,
}

/// Whether a decision about a token was in the cache.
#[cfg_attr(not(feature = "metrics"), allow(dead_code, reason = "nothing is recorded"))]
#[derive(Clone, Copy, Debug)]
pub(crate) enum CacheStatus {
    Hit,
    Miss,
}
