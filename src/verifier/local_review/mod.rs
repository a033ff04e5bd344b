//! Verification by signature and by a watch of the objects that tokens are bound to: the decision
//! of TokenReview without a call per token.

mod decision;
mod private_claims;
mod verifier;

pub use verifier::LocalReviewVerifier;
