//! Callers that are not ServiceAccounts: users and anonymous requests.

use http::StatusCode;
use tower_kube_auth::{
    TokenReviewVerifier,
    error::VerifyErrorKind,
    verdict::{RejectReason, Verdict},
};

use crate::{
    cluster::ISSUER,
    fixture::{Fixture, Outcome},
    raw_review::raw_review,
    service::Service,
    verifiers::verify,
};

pub(super) async fn a_user_is_not_a_service_account(fixture: Fixture) -> Outcome {
    let verifiers = fixture.verifiers().await?;
    let token = fixture.cluster().static_token().ok_or("a static token")?;
    let review = raw_review(fixture.admin(), &token, &[ISSUER]).await?;
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
        let answer = Service::uncached(verifiers.review.clone(), audience)
            .ask(&format!("Bearer {token}"))
            .await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert!(answer.challenge.is_some_and(|challenge| challenge.contains("invalid_token")));
    }
    Ok(())
}

pub(super) async fn a_request_without_a_credential_is_401_with_a_bare_challenge(
    fixture: Fixture,
) -> Outcome {
    let verifiers = fixture.verifiers().await?;
    let service = Service::uncached(verifiers.review, "orders");
    let answer = service.ask_without_credential().await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    let challenge = answer.challenge.ok_or("a challenge")?;
    assert!(challenge.starts_with("Bearer") && !challenge.contains("error"), "{challenge}");
    Ok(())
}

/// A client without a credential is `system:anonymous`, or unauthenticated if `--anonymous-auth` is
/// off. Neither may review tokens or read keys, and neither causes a rejection of the caller.
pub(super) async fn anonymous_verifiers_are_forbidden(fixture: Fixture) -> Outcome {
    fixture.service_account("robot").await?;
    let token = fixture.token("robot", &["orders"]).await?;
    let client = kube::Client::try_from(fixture.cluster().anonymous())?;
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
