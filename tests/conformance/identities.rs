//! What both verifiers say about the same token must be the same.

use serde_json::Value;
use tower_kube_auth::ServiceAccountIdentity;

/// Asserts that TokenReview and JWKS name the same bearer, in every field: nothing is known to only one of them.
#[track_caller]
pub(crate) fn assert_equal(review: &ServiceAccountIdentity, jwks: &ServiceAccountIdentity) {
    let (review, jwks) = (as_json(review), as_json(jwks));
    assert_eq!(review, jwks, "TokenReview (left) and JWKS (right) disagree about the bearer");
}

fn as_json(identity: &ServiceAccountIdentity) -> Value {
    serde_json::to_value(identity).expect("an identity as JSON")
}
