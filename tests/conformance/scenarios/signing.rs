//! ES256 keys and a second issuer.

use serde_json::Value;
use tower_kube_auth::{
    JwksVerifier,
    inspect::UnverifiedToken,
    verdict::{RejectReason, Verdict},
};

use super::SECOND_ISSUER;
use crate::{
    cluster::ISSUER,
    fixture::{Fixture, Outcome},
    identities::assert_equal,
    verifiers::{ACCOUNT, accepted, verify},
};

pub(super) async fn es256_tokens_are_verified(fixture: Fixture) -> Outcome {
    let verifiers = fixture.verifiers().await?;
    fixture.service_account("robot").await?;
    let token = fixture.token("robot", &["orders"]).await?;
    assert_eq!(UnverifiedToken::decode(&token)?.algorithm(), Some("ES256"));
    let verdicts = verifiers.verdicts(&token, "orders").await?;
    let (review, jwks) = verdicts.accepted();
    assert_equal(review, jwks);
    verifiers
        .verdicts(&token, "invoices")
        .await?
        .rejected("another audience", RejectReason::Audience);

    super::issuer_documents::key_set_is_serialized_as_expected(&fixture).await?;

    // Exchanging r and s makes the signature invalid.
    let (signed, signature) = token.rsplit_once('.').ok_or("a signature")?;
    let swapped = {
        let (start, end) = signature.split_at(signature.len() / 2);
        format!("{signed}.{end}{start}")
    };
    assert_eq!(
        verify(&verifiers.review, &swapped, "orders").await?,
        Verdict::Reject(RejectReason::Unauthenticated)
    );
    let rejected = verify(&verifiers.jwks, &swapped, "orders").await?;
    assert!(
        matches!(rejected, Verdict::Reject(RejectReason::Signature | RejectReason::Malformed)),
        "{rejected:?}"
    );
    Ok(())
}

/// A cluster that changes its issuer accepts both for a while. Its documents name only the new one.
pub(super) async fn a_second_issuer_is_accepted(fixture: Fixture) -> Outcome {
    let verifiers = fixture.verifiers().await?;
    fixture.service_account("robot").await?;
    let new = fixture.token("robot", &["orders"]).await?;
    let verdicts = verifiers.verdicts(&new, "orders").await?;
    let (review, jwks) = verdicts.accepted();
    assert_equal(review, jwks);
    assert_eq!(review.issuer(), Some(ISSUER));

    let key = fixture.cluster().signing_key().await;
    let mut claims = Value::Object(UnverifiedToken::decode(&new)?.claims().clone());
    claims["iss"] = SECOND_ISSUER.into();
    let old = key.sign(&key.header(), &claims);
    // Discovery does not name it, so the operator must configure it.
    assert_eq!(
        verify(&verifiers.jwks, &old, "orders").await?,
        Verdict::Reject(RejectReason::Issuer)
    );
    let own = fixture.cluster().client_for(&fixture.token(ACCOUNT, &[]).await?);
    let told = JwksVerifier::in_cluster(own).issuer(ISSUER).issuer(SECOND_ISSUER).build()?;
    accepted(&verify(&told, &new, "orders").await?);
    let offline = verify(&told, &old, "orders").await?;
    assert_eq!(accepted(&offline).issuer(), Some(SECOND_ISSUER));

    let review = verify(&verifiers.review, &old, "orders").await?;
    if fixture.cluster().version().accepts_several_issuers() {
        assert_equal(accepted(&review), accepted(&offline));
    } else {
        assert_eq!(
            review,
            Verdict::Reject(RejectReason::Unauthenticated),
            "before 1.22 there is one issuer"
        );
    }
    claims["iss"] = "https://third-issuer.example".into();
    let third = key.sign(&key.header(), &claims);
    assert_eq!(
        verify(&verifiers.review, &third, "orders").await?,
        Verdict::Reject(RejectReason::Unauthenticated)
    );
    assert_eq!(verify(&told, &third, "orders").await?, Verdict::Reject(RejectReason::Issuer));
    Ok(())
}
