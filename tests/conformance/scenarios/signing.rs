//! Other keys and other issuers than most clusters have.

use serde_json::Value;
use tower_kube_auth::{
    JwksVerifier,
    inspect::UnverifiedToken,
    verdict::{RejectReason, Verdict},
};

use super::SECOND_ISSUER;
use crate::{
    cluster::ISSUER,
    identities::assert_equal,
    scene::{Outcome, Scene},
    verifiers::{ACCOUNT, accepted, verify},
};

pub(super) async fn es256_tokens_are_verified(scene: Scene) -> Outcome {
    let verifiers = scene.verifiers().await?;
    scene.service_account("robot").await?;
    let token = scene.token("robot", &["orders"]).await?;
    assert_eq!(UnverifiedToken::decode(&token)?.algorithm(), Some("ES256"));
    let verdicts = verifiers.verdicts(&token, "orders").await?;
    let (review, jwks) = verdicts.accepted();
    assert_equal(review, jwks);
    verifiers
        .verdicts(&token, "invoices")
        .await?
        .refused("another audience", RejectReason::Audience);

    super::issuer_documents::keys_are_spelled_as_ever(&scene).await?;

    // The signature's bytes count: r and s exchanged are another signature.
    let (signed, signature) = token.rsplit_once('.').ok_or("a signature")?;
    let swapped = {
        let (start, end) = signature.split_at(signature.len() / 2);
        format!("{signed}.{end}{start}")
    };
    assert_eq!(
        verify(&verifiers.review, &swapped, "orders").await?,
        Verdict::Reject(RejectReason::Unauthenticated)
    );
    let refused = verify(&verifiers.jwks, &swapped, "orders").await?;
    assert!(
        matches!(refused, Verdict::Reject(RejectReason::Signature | RejectReason::Malformed)),
        "{refused:?}"
    );
    Ok(())
}

/// A cluster that moves from one issuer to another accepts both for a while; its documents name only the new one.
pub(super) async fn a_second_issuer_is_accepted(scene: Scene) -> Outcome {
    let verifiers = scene.verifiers().await?;
    scene.service_account("robot").await?;
    let new = scene.token("robot", &["orders"]).await?;
    let verdicts = verifiers.verdicts(&new, "orders").await?;
    let (review, jwks) = verdicts.accepted();
    assert_equal(review, jwks);
    assert_eq!(review.issuer(), Some(ISSUER));

    let key = scene.cluster().signing_key().await;
    let mut claims = Value::Object(UnverifiedToken::decode(&new)?.claims().clone());
    claims["iss"] = SECOND_ISSUER.into();
    let old = key.sign(&key.header(), &claims);
    // Discovery does not know of it, so that the operator must.
    assert_eq!(
        verify(&verifiers.jwks, &old, "orders").await?,
        Verdict::Reject(RejectReason::Issuer)
    );
    let own = scene.cluster().client_for(&scene.token(ACCOUNT, &[]).await?);
    let told = JwksVerifier::in_cluster(own).issuer(ISSUER).issuer(SECOND_ISSUER).build()?;
    accepted(&verify(&told, &new, "orders").await?);
    let offline = verify(&told, &old, "orders").await?;
    assert_eq!(accepted(&offline).issuer(), Some(SECOND_ISSUER));

    let review = verify(&verifiers.review, &old, "orders").await?;
    if scene.cluster().version().accepts_several_issuers() {
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
