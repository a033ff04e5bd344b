//! The rights that the service itself needs: without them there is no decision, an error that names the role, and 503.

use http::StatusCode;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::{Api, api::DeleteParams};
use tower_kube_auth::{Verifier, error::VerifyErrorKind};

use crate::{
    scene::{Outcome, Scene, eventually},
    service::Service,
    verifiers::{ACCOUNT, accepted, verify},
};

const DISCOVERY: &str = "system:service-account-issuer-discovery";

pub(super) async fn without_auth_delegator_the_role_is_named(scene: Scene) -> Outcome {
    scene.service_account(ACCOUNT).await?;
    let verifiers = scene.verifiers_as(&scene.token(ACCOUNT, &[]).await?)?;
    scene.service_account("robot").await?;
    let token = scene.token("robot", &["orders"]).await?;
    answers_503_and_names("system:auth-delegator", verifiers.review.clone(), &token).await?;
    // Every ServiceAccount may read the issuer's keys.
    accepted(&verify(&verifiers.jwks, &token, "orders").await?);

    // The right is granted: nothing needs a restart, and nothing was remembered.
    let service = Service::forgetful(verifiers.review, "orders");
    scene.grant_auth_delegator(ACCOUNT).await?;
    let answer = service.ask(&format!("Bearer {token}")).await;
    assert_eq!((answer.status, answer.body), (StatusCode::OK, scene.username("robot")));
    Ok(())
}

pub(super) async fn without_discovery_rights_the_role_is_named(scene: Scene) -> Outcome {
    let bindings: Api<ClusterRoleBinding> = Api::all(scene.admin());
    bindings.delete(DISCOVERY, &DeleteParams::default()).await?;
    let verifiers = scene.verifiers().await?;
    let (own, review) = (scene.token(ACCOUNT, &[]).await?, verifiers.review.clone());
    eventually("the right to be gone", || async {
        let request = http::Request::get("/openid/v1/jwks").body(Vec::new())?;
        let answer = scene.cluster().client_for(&own).request_text(request).await;
        Ok(matches!(answer, Err(kube::Error::Api(status)) if status.code == 403))
    })
    .await?;
    scene.service_account("robot").await?;
    let token = scene.token("robot", &["orders"]).await?;
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

    let service = Service::forgetful(verifier, "orders");
    let answer = service.ask(&format!("Bearer {token}")).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.retry_after.is_some(), "a time to come back");
    assert!(answer.challenge.is_none(), "the caller's token is not to blame");
    assert!(!answer.body.contains(role) && !answer.body.contains(token), "{}", answer.body);
    Ok(())
}
