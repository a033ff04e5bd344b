//! Tower and axum middleware that authenticates Kubernetes ServiceAccounts.

#[cfg(feature = "token-review")]
mod api_server;
pub mod audience;
pub mod authenticator;
mod cache;
pub mod clock;
pub mod error;
pub mod identity;
pub mod inspect;
mod json;
pub mod server;
mod token;
mod unwind;
pub mod verdict;
pub mod verifier;
#[cfg(feature = "token-review")]
mod wire;

#[cfg(feature = "testing")]
pub mod testing;

pub use authenticator::Authenticator;
pub use identity::ServiceAccountIdentity;
pub use token::{BearerToken, MalformedToken};
pub use verifier::Verifier;
#[cfg(feature = "jwks")]
pub use verifier::jwks::JwksVerifier;
#[cfg(feature = "token-review")]
pub use verifier::token_review::TokenReviewVerifier;
