//! Secret-based tokens, which every ServiceAccount had before 1.24: no expiry and no audience.

use serde_json::json;
use tower_kube_auth::{
    JwksVerifier,
    verdict::{RejectReason, Verdict},
};

use crate::{
    cluster::ISSUER,
    fixture::{Fixture, Outcome, eventually},
    raw_review::raw_review,
    verifiers::{ACCOUNT, accepted, verify},
};

pub(super) async fn the_token_of_a_secret_is_for_the_api_server_only(fixture: Fixture) -> Outcome {
    let verifiers = fixture.verifiers().await?;
    let uid = fixture.service_account("robot").await?;
    let key = fixture.cluster().signing_key().await;
    let token = key.sign(
        &key.header(),
        &json!({
            "iss": "kubernetes/serviceaccount",
            "kubernetes.io/serviceaccount/namespace": fixture.namespace(),
            "kubernetes.io/serviceaccount/secret.name": "robot-token",
            "kubernetes.io/serviceaccount/service-account.name": "robot",
            "kubernetes.io/serviceaccount/service-account.uid": uid,
            "sub": fixture.username("robot"),
        }),
    );
    let review = raw_review(fixture.admin(), &token, &[]).await?;
    assert_ne!(review["authenticated"], true, "no Secret yet");
    fixture.token_secret("robot-token", ("robot", &uid), &token).await?;
    eventually("the Secret to take effect", || async {
        Ok(raw_review(fixture.admin(), &token, &[]).await?["authenticated"] == true)
    })
    .await?;

    // The API server accepts it for its own audience.
    let verdict = verify(&verifiers.review, &token, ISSUER).await?;
    assert_eq!((accepted(&verdict).uid(), accepted(&verdict).expires_at()), (&*uid, None));
    // It is rejected for other audiences, and by JWKS unless the dangerous option is set.
    let verdict = verify(&verifiers.review, &token, "orders").await?;
    assert_eq!(verdict, Verdict::Reject(RejectReason::Unauthenticated));
    assert_eq!(
        verify(&verifiers.jwks, &token, "orders").await?,
        Verdict::Reject(RejectReason::Issuer)
    );
    let own = fixture.cluster().client_for(&fixture.token(ACCOUNT, &[]).await?);
    let reckless = JwksVerifier::in_cluster(own).dangerous_accept_legacy_tokens().build()?;
    assert_eq!(accepted(&verify(&reckless, &token, "orders").await?).uid(), uid);

    fixture.delete_secret("robot-token").await?;
    eventually("the token to end with its Secret", || async {
        Ok(verify(&verifiers.review, &token, ISSUER).await?
            == Verdict::Reject(RejectReason::Unauthenticated))
    })
    .await
}
