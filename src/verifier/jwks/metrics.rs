//! What a verifier counts.

use crate::counters::Counter;

/// What a [`JwksVerifier`](super::JwksVerifier) has counted since it was built, and how many keys it has. See
/// [`metrics`](super::JwksVerifier::metrics).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JwksMetrics {
    /// Fetches of the keys, whatever caused them.
    pub fetches: u64,
    /// Those of them that brought no keys.
    pub failed_fetches: u64,
    /// Tokens whose key id was not among the keys at hand.
    pub unknown_keys: u64,
    /// Those of them that were left undecided, because a token had caused a fetch a moment ago or too many waited for one.
    pub within_cooldown: u64,
    /// The keys at hand that can be used. Not a counter.
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
