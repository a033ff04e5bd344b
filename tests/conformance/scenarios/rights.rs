//! Missing rights of the service itself: a 503, and an error that names the role.

use http::StatusCode;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::{Api, api::DeleteParams};
use tower_kube_auth::{Verifier, error::VerifyErrorKind};

use crate::{
    fixture::{Fixture, Outcome, eventually},
    service::Service,
    verifiers::{ACCOUNT, accepted, verify},
};

const DISCOVERY: &str = "system:service-account-issuer-discovery";

pub(super) async fn without_auth_delegator_the_error_names_the_role(fixture: Fixture) -> Outcome {
    fixture.service_account(ACCOUNT).await?;
    let verifiers = fixture.verifiers_as(&fixture.token(ACCOUNT, &[]).await?)?;
    fixture.service_account("robot").await?;
    let token = fixture.token("robot", &["orders"]).await?;
    answers_503_and_names("system:auth-delegator", verifiers.review.clone(), &token).await?;
    // Every ServiceAccount may read the issuer's keys.
    accepted(&verify(&verifiers.jwks, &token, "orders").await?);

    // Once the right is granted, no restart is needed and no failure is cached.
    let service = Service::uncached(verifiers.review, "orders");
    fixture.grant_auth_delegator(ACCOUNT).await?;
    let answer = service.ask(&format!("Bearer {token}")).await;
    assert_eq!((answer.status, answer.body), (StatusCode::OK, fixture.username("robot")));
    Ok(())
}

pub(super) async fn without_discovery_rights_the_error_names_the_role(fixture: Fixture) -> Outcome {
    let bindings: Api<ClusterRoleBinding> = Api::all(fixture.admin());
    bindings.delete(DISCOVERY, &DeleteParams::default()).await?;
    let verifiers = fixture.verifiers().await?;
    let (own, review) = (fixture.token(ACCOUNT, &[]).await?, verifiers.review.clone());
    eventually("the revocation to take effect", || async {
        let request = http::Request::get("/openid/v1/jwks").body(Vec::new())?;
        let answer = fixture.cluster().client_for(&own).request_text(request).await;
        Ok(matches!(answer, Err(kube::Error::Api(status)) if status.code == 403))
    })
    .await?;
    fixture.service_account("robot").await?;
    let token = fixture.token("robot", &["orders"]).await?;
    accepted(&verify(&review, &token, "orders").await?);
    answers_503_and_names(DISCOVERY, verifiers.jwks, &token).await
}

async fn answers_503_and_names(
    role: &str,
    verifier: impl Verifier + Clone,
    token: &str,
) -> Outcome {
    let error = verify(&verifier, token, "orders").await.expect_err("a right is missing");
    assert_eq!(error.kind(), VerifyErrorKind::Forbidden, "{error}");
    assert!(error.to_string().contains(role), "{error}");

    let service = Service::uncached(verifier, "orders");
    let answer = service.ask(&format!("Bearer {token}")).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.retry_after.is_some(), "Retry-After");
    assert!(answer.challenge.is_none(), "no challenge for a failure of the service");
    assert!(!answer.body.contains(role) && !answer.body.contains(token), "{}", answer.body);
    Ok(())
}
