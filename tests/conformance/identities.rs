//! Comparison of the identities that both verifiers return for one token.

use serde_json::Value;
use tower_kube_auth::ServiceAccountIdentity;

/// Asserts that TokenReview and JWKS return the same identity in every field.
#[track_caller]
pub(crate) fn assert_equal(review: &ServiceAccountIdentity, jwks: &ServiceAccountIdentity) {
    let (review, jwks) = (as_json(review), as_json(jwks));
    assert_eq!(review, jwks, "TokenReview (left) and JWKS (right) return different identities");
}

fn as_json(identity: &ServiceAccountIdentity) -> Value {
    serde_json::to_value(identity).expect("an identity as JSON")
}
