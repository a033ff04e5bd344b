//! Callers that are not ServiceAccounts: users, and nobody at all.

use http::StatusCode;
use tower_kube_auth::{
    TokenReviewVerifier,
    error::VerifyErrorKind,
    verdict::{RejectReason, Verdict},
};

use crate::{
    cluster::ISSUER,
    raw_review::raw_review,
    scene::{Outcome, Scene},
    service::Service,
    verifiers::verify,
};

pub(super) async fn a_user_is_not_a_service_account(scene: Scene) -> Outcome {
    let verifiers = scene.verifiers().await?;
    let token = scene.cluster().static_token().ok_or("a static token")?;
    let review = raw_review(scene.admin(), &token, &[ISSUER]).await?;
    assert_eq!(review["authenticated"], true, "Kubernetes knows the user: {review}");
    assert_eq!(review["user"]["username"], "admin");
    assert_eq!(review["audiences"], serde_json::json!([ISSUER]));

    let verdict = verify(&verifiers.review, &token, ISSUER).await?;
    assert_eq!(verdict, Verdict::Reject(RejectReason::NotAServiceAccount));
    let verdict = verify(&verifiers.review, &token, "orders").await?;
    assert_eq!(
        verdict,
        Verdict::Reject(RejectReason::Unauthenticated),
        "a user's token is for the API server only"
    );
    assert_eq!(
        verify(&verifiers.jwks, &token, ISSUER).await?,
        Verdict::Reject(RejectReason::Malformed)
    );

    for audience in [ISSUER, "orders"] {
        let answer = Service::forgetful(verifiers.review.clone(), audience)
            .ask(&format!("Bearer {token}"))
            .await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert!(answer.challenge.is_some_and(|challenge| challenge.contains("invalid_token")));
    }
    Ok(())
}

pub(super) async fn without_a_credential(scene: Scene) -> Outcome {
    let verifiers = scene.verifiers().await?;
    let service = Service::forgetful(verifiers.review, "orders");
    let answer = service.ask_without_credential().await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    let challenge = answer.challenge.ok_or("a challenge")?;
    assert!(challenge.starts_with("Bearer") && !challenge.contains("error"), "{challenge}");
    Ok(())
}

/// A client without a credential is `system:anonymous`, or nobody where `--anonymous-auth` is off; neither may review
/// tokens or read keys, and neither makes a caller's token bad.
pub(super) async fn anonymous_verifiers_are_forbidden(scene: Scene) -> Outcome {
    scene.service_account("robot").await?;
    let token = scene.token("robot", &["orders"]).await?;
    let client = kube::Client::try_from(scene.cluster().anonymous())?;
    let kinds = [VerifyErrorKind::Forbidden, VerifyErrorKind::Unauthenticated];
    let error = verify(&TokenReviewVerifier::new(client.clone()), &token, "orders")
        .await
        .expect_err("no rights");
    assert!(kinds.contains(&error.kind()), "{error}");
    let error =
        verify(&crate::verifiers::offline(client), &token, "orders").await.expect_err("no rights");
    assert!(kinds.contains(&error.kind()), "{error}");
    Ok(())
}
