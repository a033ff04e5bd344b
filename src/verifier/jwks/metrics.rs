//! The counters of a JWKS verifier.

use crate::counters::Counter;

/// Counters of a [`JwksVerifier`](super::JwksVerifier) since it was built, and its number of keys.
/// See [`metrics`](super::JwksVerifier::metrics).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JwksMetrics {
    /// Fetches of the keys, whatever triggered them.
    pub fetches: u64,
    /// Fetches that failed.
    pub failed_fetches: u64,
    /// Tokens whose key id was not among the loaded keys.
    pub unknown_keys: u64,
    /// Tokens with an unknown key id that were left undecided, because a token had triggered a
    /// fetch within the cooldown or too many tokens waited for one.
    pub within_cooldown: u64,
    /// Usable keys that are loaded. A gauge, not a counter.
    pub keys: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) fetches: Counter,
    pub(super) failed_fetches: Counter,
    pub(super) unknown_keys: Counter,
    pub(super) within_cooldown: Counter,
}

impl Counters {
    pub(super) fn read(&self, keys: usize) -> JwksMetrics {
        JwksMetrics {
            fetches: self.fetches.get(),
            failed_fetches: self.failed_fetches.get(),
            unknown_keys: self.unknown_keys.get(),
            within_cooldown: self.within_cooldown.get(),
            keys: u64::try_from(keys).unwrap_or(u64::MAX),
        }
    }
}
