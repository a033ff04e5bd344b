//! Offline verification with the public keys of the issuer (JWKS, OIDC discovery).
//!
//! Offline verification does not see that a ServiceAccount, Pod or Secret was deleted: the token is
//! accepted until it expires. Projected tokens live for an hour by default. Where that is too long,
//! use [`TokenReviewVerifier`](crate::TokenReviewVerifier), which asks the API server.

mod algorithm;
mod build_error;
mod builder;
mod claims;
mod constructors;
mod header;
mod key;
mod key_origin;
mod key_set;
mod key_snapshot;
mod loader;
mod metrics;
mod rules;
mod source;
#[cfg(test)]
mod tests;
mod verifier;

pub use self::metrics::JwksMetrics;
pub use algorithm::Algorithm;
pub use build_error::JwksBuildError;
pub use builder::JwksBuilder;
pub use verifier::JwksVerifier;
