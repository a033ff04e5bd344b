//! The authenticator that accepted an identity.

use std::sync::atomic::{AtomicU64, Ordering};

/// Identifies an authenticator within the process. `Default` stands for none.
///
/// It lets a nested layer keep an identity of its own authenticator. A client cannot forge it,
/// because it never leaves the process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AuthenticatorId(u64);

impl AuthenticatorId {
    /// Returns an id that no other authenticator has.
    pub(crate) fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub(super) fn is_same(self, other: Self) -> bool {
        self.0 != 0 && self.0 == other.0
    }
}

/// Always equal: who accepted an identity is no part of the identity.
impl PartialEq for AuthenticatorId {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for AuthenticatorId {}
