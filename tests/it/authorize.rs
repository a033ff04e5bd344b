//! The authorize layer: who reaches the inner service, and what the others are told.

use std::{convert::Infallible, future::pending, rc::Rc, time::Duration};

use axum::{
    body::Body,
    http::{Method, Request, Response, StatusCode, header},
};
use tower::{Layer, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer, service_fn};
use tower_kube_auth::{
    ServiceAccountIdentity,
    authorizer::{
        AllowList, AuthorizeError, AuthorizeErrorKind, Authorizer, Decision, RequestHead,
        authorize_fn,
    },
    server::AuthorizeLayer,
    testing::IdentityBuilder,
};

use crate::support::{FakeAuthorizer, FakeVerifier, Service, anonymous, denied, token};

/// Returns a service without an authenticate layer: the requests come with their identity.
fn behind(authorizer: impl Authorizer) -> Service {
    let layer = AuthorizeLayer::new(authorizer);
    Service::behind(|router| router.layer(layer))
}

fn request() -> Request<Body> {
    let mut request = Request::get("/?id=1").body(Body::empty()).unwrap();
    request.extensions_mut().insert(IdentityBuilder::new("shop", "checkout").build());
    request
}

fn grpc(mut request: Request<Body>) -> Request<Body> {
    *request.method_mut() = Method::POST;
    request.headers_mut().insert(header::CONTENT_TYPE, "application/grpc".parse().unwrap());
    request
}

#[tokio::test]
async fn an_allowed_request_reaches_the_handler_once() {
    let decide = |_: &ServiceAccountIdentity, head: RequestHead<'_>| {
        let is_expected = head.uri().query() == Some("id=1") && head.method() == Method::GET;
        if is_expected { Decision::Allow } else { denied() }
    };
    for service in [
        behind(AllowList::new(["shop/checkout"]).unwrap()),
        behind(authorize_fn(decide)),
        behind(FakeAuthorizer(Ok(Decision::Allow))),
    ] {
        let answer = service.send(request()).await;
        assert_eq!((answer.status, service.reached()), (StatusCode::OK, 1));
        assert_eq!(answer.body, "system:serviceaccount:shop:checkout []");
    }
}

#[tokio::test]
async fn a_denied_request_403_insufficient_scope() {
    for service in [
        behind(AllowList::new(["shop/basket", "ops/*"]).unwrap()),
        behind(authorize_fn(|_, _| denied())),
        behind(FakeAuthorizer(Ok(denied()))),
    ] {
        let answer = service.blocked(request()).await;
        assert_eq!((answer.status, &*answer.body), (StatusCode::FORBIDDEN, "access is denied"));
        assert_eq!(
            answer.challenge(),
            Some("Bearer error=\"insufficient_scope\", error_description=\"access is denied\"")
        );
        assert_eq!(answer.header(header::RETRY_AFTER), None);
    }
}

#[tokio::test]
async fn without_a_decision_503_with_retry_after_and_no_challenge() {
    let service = behind(FakeAuthorizer(Err(AuthorizeErrorKind::Unavailable)));
    let answer = service.blocked(request()).await;
    assert_eq!((answer.status, answer.challenge()), (StatusCode::SERVICE_UNAVAILABLE, None));
    assert_eq!(answer.header(header::RETRY_AFTER), Some("7"));
}

#[tokio::test]
async fn a_panicking_authorizer_is_a_failure_and_no_permission() {
    struct PanicsLater;
    impl Authorizer for PanicsLater {
        async fn authorize(
            &self,
            _: &ServiceAccountIdentity,
            _: RequestHead<'_>,
        ) -> Result<Decision, AuthorizeError> {
            tokio::task::yield_now().await;
            panic!("on purpose")
        }
    }
    for service in [behind(authorize_fn(|_, _| panic!("on purpose"))), behind(PanicsLater)] {
        let answer = service.blocked(request()).await;
        assert_eq!((answer.status, answer.challenge()), (StatusCode::SERVICE_UNAVAILABLE, None));
        assert_eq!(answer.header(header::RETRY_AFTER), Some("1"));
    }
}

#[tokio::test]
async fn without_an_authenticate_layer_500_and_never_the_handler() {
    let answer = behind(AllowList::any_authenticated()).blocked(anonymous()).await;
    assert_eq!((answer.status, answer.challenge()), (StatusCode::INTERNAL_SERVER_ERROR, None));
}

#[tokio::test]
async fn an_anonymous_caller_401_with_a_challenge() {
    let auth = FakeVerifier::accepting().authenticator().layer().optional();
    let layer = AuthorizeLayer::new(AllowList::any_authenticated());
    let service = Service::behind(|router| router.layer(layer).layer(auth));
    let answer = service.blocked(anonymous()).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer.challenge(), Some("Bearer realm=\"kubernetes\""));
    assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_grpc_caller_is_answered_in_trailers_only() {
    for (service, request, code) in [
        (behind(FakeAuthorizer(Ok(denied()))), request(), "7"),
        (behind(authorize_fn(|_, _| denied())), request(), "7"),
        (behind(FakeAuthorizer(Err(AuthorizeErrorKind::Timeout))), request(), "14"),
        (behind(AllowList::any_authenticated()), anonymous(), "13"),
    ] {
        let answer = service.blocked(grpc(request)).await;
        assert_eq!((answer.status, &*answer.body), (StatusCode::OK, ""));
        assert_eq!(answer.header("grpc-status"), Some(code));
    }
}

#[tokio::test]
async fn the_hook_of_the_authenticate_layer_fits_here_too() {
    let hook = |response: Response<()>, rejection: &tower_kube_auth::server::Rejection| {
        response.map(|()| format!("{{\"error\":\"{}\"}}", rejection.body_text()))
    };
    let handler =
        service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new())));
    let layer = AuthorizeLayer::new(authorize_fn(|_, _| denied())).map_rejection_response(hook);
    let (parts, _) = request().into_parts();
    let request = Request::from_parts(parts, ());
    let response = layer.layer(handler).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(response.into_body(), "{\"error\":\"access is denied\"}");
}

#[tokio::test]
async fn a_body_that_is_not_send_works() {
    for authorizer in [FakeAuthorizer(Ok(Decision::Allow)), FakeAuthorizer(Ok(denied()))] {
        let expected = if authorizer.0 == Ok(Decision::Allow) { 200 } else { 403 };
        let handler = service_fn(async |request: Request<Rc<()>>| {
            Ok::<_, Infallible>(Response::new(request.into_body()))
        });
        let (parts, _) = request().into_parts();
        let service = AuthorizeLayer::new(authorizer).layer(handler);
        let response = service.oneshot(Request::from_parts(parts, Rc::new(()))).await.unwrap();
        assert_eq!(response.status(), expected);
    }
}

#[tokio::test]
async fn a_request_that_waits_for_a_decision_holds_no_permit_of_the_inner_service() {
    struct Blocks;
    impl Authorizer for Blocks {
        async fn authorize(
            &self,
            _: &ServiceAccountIdentity,
            _: RequestHead<'_>,
        ) -> Result<Decision, AuthorizeError> {
            pending().await
        }

        fn authorize_now(
            &self,
            _: &ServiceAccountIdentity,
            head: RequestHead<'_>,
        ) -> Option<Decision> {
            (head.uri().path() == "/now").then_some(Decision::Allow)
        }
    }
    let handler =
        service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::empty())));
    let service = ServiceBuilder::new()
        .layer(AuthorizeLayer::new(Blocks))
        .layer(ConcurrencyLimitLayer::new(1))
        .service(handler);
    let mut waiting = service.clone();
    let blocked = tower::Service::call(waiting.ready().await.unwrap(), request());
    tokio::pin!(blocked);
    assert!(poll_once(blocked.as_mut()).await.is_none(), "the decision does not come");

    let mut now = request();
    *now.uri_mut() = "/now".parse().unwrap();
    let response = tokio::time::timeout(Duration::from_secs(30), service.oneshot(now)).await;
    assert_eq!(response.expect("the permit is free").unwrap().status(), StatusCode::OK);
}

/// Polls once.
async fn poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match future.as_mut().poll(cx) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}
