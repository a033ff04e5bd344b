//! What is recorded about.

/// What a decision is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Who the caller is.
    Authentication,
    /// What the caller may do.
    Authorization,
}

/// Whether a decision about a token was in the cache.
#[cfg_attr(not(feature = "metrics"), allow(dead_code, reason = "nothing is recorded"))]
#[derive(Clone, Copy, Debug)]
pub(crate) enum CacheStatus {
    Hit,
    Miss,
}
