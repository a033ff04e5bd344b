//! The identity as an argument of an axum handler.

use axum::{Router, http::StatusCode, routing::get};
use tower::ServiceExt;
use tower_kube_auth::{ServiceAccountIdentity, verdict::RejectReason};

use crate::support::{Answer, FakeVerifier, anonymous, answer, bearer, token, token_leaks};

async fn required(caller: ServiceAccountIdentity, again: ServiceAccountIdentity) -> String {
    assert_eq!(caller, again, "a second extractor");
    caller.to_string()
}

async fn optional(caller: Option<ServiceAccountIdentity>) -> String {
    caller.map_or("nobody".into(), |caller| caller.to_string())
}

fn router() -> Router {
    Router::new().route("/", get(required)).route("/optional", get(optional))
}

async fn send(router: Router, path: &str, token: Option<&str>) -> Answer {
    let mut request = token.map_or_else(anonymous, bearer);
    *request.uri_mut() = path.parse().unwrap();
    answer(router.oneshot(request).await.unwrap()).await
}

#[tokio::test]
async fn both_extractors_behind_the_layer() {
    let router = router().layer(FakeVerifier::accepting().authenticator().layer());
    for path in ["/", "/optional"] {
        assert_eq!(
            send(router.clone(), path, Some(&token("a"))).await.body,
            "system:serviceaccount:ns:sa"
        );
        assert_eq!(send(router.clone(), path, None).await.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn both_extractors_behind_an_optional_layer() {
    let router = router().layer(FakeVerifier::accepting().authenticator().layer().optional());
    assert_eq!(send(router.clone(), "/optional", None).await.body, "nobody");
    assert_eq!(
        send(router.clone(), "/optional", Some(&token("a"))).await.body,
        "system:serviceaccount:ns:sa"
    );
    let answer = send(router, "/", None).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "the handler requires an identity");
    assert_eq!(answer.challenge(), Some("Bearer realm=\"kubernetes\""));
}

#[tokio::test]
async fn a_rejected_token_is_never_treated_as_anonymous() {
    let router = router()
        .layer(FakeVerifier::rejecting(RejectReason::Audience).authenticator().layer().optional());
    assert_eq!(send(router, "/optional", Some(&token("a"))).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn without_the_layer_extractors_answer_500_and_log_its_name() {
    token_leaks::watch();
    for path in ["/", "/optional"] {
        let answer = send(router(), path, Some(&token("a"))).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    }
    assert!(token_leaks::logged("add .layer(authenticator.layer())"));
}

#[tokio::test]
async fn an_optional_inner_layer_removes_the_identity_of_an_outer_one() {
    let outer = FakeVerifier::accepting().authenticator().layer();
    let inner = FakeVerifier::rejecting(RejectReason::Audience).authenticator().layer().optional();
    let router = router().layer(inner).layer(outer);
    assert_eq!(send(router, "/optional", Some(&token("a"))).await.body, "nobody");
}
