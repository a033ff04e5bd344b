//! Tower and axum middleware that authenticates Kubernetes ServiceAccounts.

pub mod clock;

/// An embedded cluster and other help for tests.
#[cfg(feature = "testing")]
pub mod testing;
