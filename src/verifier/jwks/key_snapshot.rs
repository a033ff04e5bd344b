//! Loaded keys, and the fetch that brought them.

use std::{sync::Arc, time::Instant};

use super::key_set::KeySet;

/// The result of a fetch.
pub(super) struct LoadedKeys {
    pub(super) keys: KeySet,
    /// The issuer in the discovery document, if one was fetched.
    pub(super) issuer: Option<Arc<str>>,
}

/// Loaded keys with the number of the fetch that brought them.
pub(super) struct KeySnapshot {
    pub(super) loaded: LoadedKeys,
    pub(super) fetch: u64,
    /// When the fetch began.
    pub(super) began: Instant,
}

/// The number of fetches that had begun at some moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FetchSequence(pub(super) u64);

impl KeySnapshot {
    /// Whether the fetch of these keys began after `arrival`. Only then does a key that is missing
    /// from them not exist at the issuer.
    pub(super) fn is_newer_than(&self, FetchSequence(arrival): FetchSequence) -> bool {
        self.fetch > arrival
    }
}
