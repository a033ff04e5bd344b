//! Verifiers: the [`Verifier`] trait, its implementations, and their combinations.
//!
//! [`TokenReviewVerifier`](token_review::TokenReviewVerifier) asks the API server,
//! `jwks::JwksVerifier` checks signatures offline, and [`VerifierExt`] combines the two.

mod chain;
mod dyn_verifier;
#[cfg(test)]
mod fake_verifier;
mod fallback;
#[cfg(feature = "jwks")]
pub mod jwks;
#[cfg(all(feature = "jwks", feature = "watch"))]
pub mod local_review;
mod screened;
pub mod token_review;
#[expect(clippy::module_inception, reason = "the trait is what the module is about")]
mod verifier;
mod verifier_ext;

pub use chain::Chain;
pub use dyn_verifier::DynVerifier;
pub use fallback::Fallback;
pub use screened::Screened;
pub use verifier::Verifier;
pub use verifier_ext::VerifierExt;
