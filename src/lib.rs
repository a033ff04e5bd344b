//! Tower and axum middleware that authenticates Kubernetes ServiceAccounts.

pub mod audience;
pub mod clock;
pub mod error;
pub mod identity;
pub mod inspect;
mod token;
pub mod verdict;
pub mod verifier;

/// An embedded cluster and other help for tests.
#[cfg(feature = "testing")]
pub mod testing;

pub use identity::ServiceAccountIdentity;
pub use token::{BearerToken, MalformedToken};
pub use verifier::Verifier;
