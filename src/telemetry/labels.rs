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
#[cfg_attr(
    not(all(feature = "jwks", feature = "watch")),
    allow(dead_code, reason = "there are no keys, or no watches")
)]
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
    /// Watched objects of a resource that exist.
    LiveObjects(&'static str),
    /// Watches of a resource that are in a phase.
    Watches(&'static str, &'static str),
}

/// Whether a decision about a token was in the cache.
#[cfg_attr(not(feature = "metrics"), allow(dead_code, reason = "nothing is recorded"))]
#[derive(Clone, Copy, Debug)]
pub(crate) enum CacheStatus {
    Hit,
    Miss,
}
