//! The identity as a handler's argument.

use axum::{Router, http::StatusCode, routing::get};
use tower::ServiceExt;
use tower_kube_auth::{ServiceAccountIdentity, verdict::RejectReason};

use crate::{
    leaks,
    scripted::{Answer, Scripted, anonymous, answer, bearer, token},
};

async fn required(caller: ServiceAccountIdentity, again: ServiceAccountIdentity) -> String {
    assert_eq!(caller, again, "a second extractor finds it too");
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
    let router = router().layer(Scripted::accepting().authenticator().layer());
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
    let router = router().layer(Scripted::accepting().authenticator().layer().optional());
    assert_eq!(send(router.clone(), "/optional", None).await.body, "nobody");
    assert_eq!(
        send(router.clone(), "/optional", Some(&token("a"))).await.body,
        "system:serviceaccount:ns:sa"
    );
    let answer = send(router, "/", None).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "the handler wants a caller");
    assert_eq!(answer.challenge(), Some("Bearer realm=\"kubernetes\""));
}

#[tokio::test]
async fn a_bad_token_never_becomes_nobody() {
    let router = router()
        .layer(Scripted::rejecting(RejectReason::Audience).authenticator().layer().optional());
    assert_eq!(send(router, "/optional", Some(&token("a"))).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn without_the_layer_500_and_a_log_line_that_names_it() {
    leaks::watch();
    for path in ["/", "/optional"] {
        let answer = send(router(), path, Some(&token("a"))).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    }
    assert!(leaks::logged("add .layer(authenticator.layer())"));
}

#[tokio::test]
async fn an_identity_of_an_outer_layer_does_not_survive_an_optional_inner_one() {
    let outer = Scripted::accepting().authenticator().layer();
    let inner = Scripted::rejecting(RejectReason::Audience).authenticator().layer().optional();
    let router = router().layer(inner).layer(outer);
    assert_eq!(send(router, "/optional", Some(&token("a"))).await.body, "nobody");
}
