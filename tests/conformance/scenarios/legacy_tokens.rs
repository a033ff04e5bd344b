//! Tokens of Secrets, as every ServiceAccount had one before 1.24: without an end and without an audience.

use serde_json::json;
use tower_kube_auth::{
    JwksVerifier,
    verdict::{RejectReason, Verdict},
};

use crate::{
    cluster::ISSUER,
    raw_review::raw_review,
    scene::{Outcome, Scene, eventually},
    verifiers::{ACCOUNT, accepted, verify},
};

pub(super) async fn a_secrets_token_is_for_the_api_server_only(scene: Scene) -> Outcome {
    let verifiers = scene.verifiers().await?;
    let uid = scene.service_account("robot").await?;
    let key = scene.cluster().signing_key().await;
    let token = key.sign(
        &key.header(),
        &json!({
            "iss": "kubernetes/serviceaccount",
            "kubernetes.io/serviceaccount/namespace": scene.namespace(),
            "kubernetes.io/serviceaccount/secret.name": "robot-token",
            "kubernetes.io/serviceaccount/service-account.name": "robot",
            "kubernetes.io/serviceaccount/service-account.uid": uid,
            "sub": scene.username("robot"),
        }),
    );
    let review = raw_review(scene.admin(), &token, &[]).await?;
    assert_ne!(review["authenticated"], true, "not without its Secret");
    scene.token_secret("robot-token", ("robot", &uid), &token).await?;
    eventually("the Secret to be noticed", || async {
        Ok(raw_review(scene.admin(), &token, &[]).await?["authenticated"] == true)
    })
    .await?;

    // The API server takes it for its own audience.
    let verdict = verify(&verifiers.review, &token, ISSUER).await?;
    assert_eq!((accepted(&verdict).uid(), accepted(&verdict).expires_at()), (&*uid, None));
    // So it is nobody's whose audience is another, and offline nobody's at all unless somebody asks for danger.
    let verdict = verify(&verifiers.review, &token, "orders").await?;
    assert_eq!(verdict, Verdict::Reject(RejectReason::Unauthenticated));
    assert_eq!(
        verify(&verifiers.jwks, &token, "orders").await?,
        Verdict::Reject(RejectReason::Issuer)
    );
    let own = scene.cluster().client_for(&scene.token(ACCOUNT, &[]).await?);
    let reckless = JwksVerifier::in_cluster(own).dangerous_accept_legacy_tokens().build()?;
    assert_eq!(accepted(&verify(&reckless, &token, "orders").await?).uid(), uid);

    scene.delete_secret("robot-token").await?;
    eventually("the token to end with its Secret", || async {
        Ok(verify(&verifiers.review, &token, ISSUER).await?
            == Verdict::Reject(RejectReason::Unauthenticated))
    })
    .await
}
