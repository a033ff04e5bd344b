//! The authorize layer: who reaches the inner service, and what the others are told.

use std::{
    convert::Infallible,
    future::pending,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderMap, Request, Response, StatusCode, header},
};
use http_body_util::BodyExt;
use tower::{Layer, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer, service_fn};
use tower_kube_auth::{
    Authenticator, ServiceAccountIdentity, TokenReviewVerifier,
    authorizer::{
        AllowList, AuthorizeError, AuthorizeErrorKind, Authorizer, Decision, DenyReason,
        RequestHead, authorize_fn,
    },
    server::AuthorizeLayer,
    testing::{Cluster, IdentityBuilder},
};

/// Answers `0` after a turn of the scheduler, so never synchronously.
struct Later(Result<Decision, AuthorizeErrorKind>);

impl Authorizer for Later {
    async fn authorize(
        &self,
        _: &ServiceAccountIdentity,
        _: RequestHead<'_>,
    ) -> Result<Decision, AuthorizeError> {
        tokio::task::yield_now().await;
        self.0.map_err(|kind| {
            AuthorizeError::new(kind, "no decision").with_retry_after(Duration::from_secs(7))
        })
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
    handler_calls: usize,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// Sends `request` to a counting handler behind an authorize layer.
async fn answer(authorizer: impl Authorizer, request: Request<Body>) -> Answer {
    let calls = Arc::new(AtomicUsize::new(0));
    let handler = service_fn({
        let calls = calls.clone();
        move |_: Request<Body>| {
            calls.fetch_add(1, Ordering::SeqCst);
            async { Ok::<_, Infallible>(Response::new(Body::from("handled"))) }
        }
    });
    let service = AuthorizeLayer::new(authorizer).layer(handler);
    let (parts, body) = service.oneshot(request).await.unwrap().into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    let handler_calls = calls.load(Ordering::SeqCst);
    Answer { status: parts.status, headers: parts.headers, body, handler_calls }
}

fn request() -> Request<Body> {
    let mut request = Request::get("/orders?id=1").body(Body::empty()).unwrap();
    request.extensions_mut().insert(IdentityBuilder::new("shop", "checkout").build());
    request
}

fn grpc(mut request: Request<Body>) -> Request<Body> {
    *request.method_mut() = axum::http::Method::POST;
    request.headers_mut().insert(header::CONTENT_TYPE, "application/grpc".parse().unwrap());
    request
}

fn deny() -> Decision {
    Decision::Deny(DenyReason::Custom("not today"))
}

#[tokio::test]
async fn an_allowed_request_reaches_the_handler_once() {
    for answer in [
        answer(AllowList::new(["shop/checkout"]).unwrap(), request()).await,
        answer(authorize_fn(|_, head| decide_by_path(head)), request()).await,
        answer(Later(Ok(Decision::Allow)), request()).await,
    ] {
        assert_eq!((answer.status, answer.handler_calls), (StatusCode::OK, 1));
        assert_eq!(answer.body, "handled");
    }
}

fn decide_by_path(head: RequestHead<'_>) -> Decision {
    let is_expected = head.uri().path() == "/orders" && head.method() == "GET";
    if is_expected { Decision::Allow } else { deny() }
}

#[tokio::test]
async fn a_denied_request_403_insufficient_scope() {
    for answer in [
        answer(AllowList::new(["shop/basket", "ops/*"]).unwrap(), request()).await,
        answer(authorize_fn(|_, _| deny()), request()).await,
        answer(Later(Ok(deny())), request()).await,
    ] {
        assert_eq!((answer.status, answer.handler_calls), (StatusCode::FORBIDDEN, 0));
        assert_eq!(
            answer.header("www-authenticate"),
            Some("Bearer error=\"insufficient_scope\", error_description=\"access is denied\"")
        );
        assert_eq!(
            (answer.body.as_str(), answer.header("retry-after")),
            ("access is denied", None)
        );
    }
}

#[tokio::test]
async fn without_a_decision_503_with_retry_after_and_no_challenge() {
    let answer = answer(Later(Err(AuthorizeErrorKind::Unavailable)), request()).await;
    assert_eq!((answer.status, answer.handler_calls), (StatusCode::SERVICE_UNAVAILABLE, 0));
    assert_eq!(answer.header("retry-after"), Some("7"));
    assert_eq!(answer.header("www-authenticate"), None);
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
    for answer in [
        answer(authorize_fn(|_, _| panic!("on purpose")), request()).await,
        answer(PanicsLater, request()).await,
    ] {
        assert_eq!((answer.status, answer.handler_calls), (StatusCode::SERVICE_UNAVAILABLE, 0));
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
}

#[tokio::test]
async fn without_an_authenticate_layer_500_and_never_the_handler() {
    let without = Request::get("/").body(Body::empty()).unwrap();
    let answer = answer(AllowList::any_authenticated(), without).await;
    assert_eq!((answer.status, answer.handler_calls), (StatusCode::INTERNAL_SERVER_ERROR, 0));
    assert_eq!(answer.header("www-authenticate"), None);
}

#[tokio::test]
async fn an_anonymous_caller_401_with_a_challenge() {
    let cluster = Cluster::start().await.unwrap();
    let verifier = TokenReviewVerifier::new(cluster.kube_client().unwrap());
    let auth = Authenticator::builder(verifier).audience("orders").build().unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let handler = service_fn({
        let calls = calls.clone();
        move |_: Request<Body>| {
            calls.fetch_add(1, Ordering::SeqCst);
            async { Ok::<_, Infallible>(Response::new(Body::empty())) }
        }
    });
    let service = ServiceBuilder::new()
        .layer(auth.layer().optional())
        .layer(AuthorizeLayer::new(AllowList::any_authenticated()))
        .service(handler);
    let response = service.clone().oneshot(Request::new(Body::empty())).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"kubernetes\"");
    assert_eq!(calls.load(Ordering::SeqCst), 0);

    cluster.create_service_account("shop", "checkout");
    let token = cluster.token("shop", "checkout").audience("orders").issue().unwrap();
    let request = Request::get("/").header("authorization", format!("Bearer {token}"));
    let response = service.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!((response.status(), calls.load(Ordering::SeqCst)), (StatusCode::OK, 1));
}

#[tokio::test]
async fn a_grpc_caller_is_answered_in_trailers_only() {
    let without = grpc(Request::new(Body::empty()));
    for (answer, code) in [
        (answer(Later(Ok(deny())), grpc(request())).await, "7"),
        (answer(authorize_fn(|_, _| deny()), grpc(request())).await, "7"),
        (answer(Later(Err(AuthorizeErrorKind::Timeout)), grpc(request())).await, "14"),
        (answer(AllowList::any_authenticated(), without).await, "13"),
    ] {
        assert_eq!((answer.status, answer.handler_calls), (StatusCode::OK, 0));
        assert_eq!(answer.header("grpc-status"), Some(code));
        assert!(answer.body.is_empty());
    }
}

#[tokio::test]
async fn the_hook_of_the_authenticate_layer_fits_here_too() {
    let hook = |response: Response<()>, rejection: &tower_kube_auth::server::Rejection| {
        response.map(|()| format!("{{\"error\":\"{}\"}}", rejection.body_text()))
    };
    let handler =
        service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new())));
    let layer = AuthorizeLayer::new(authorize_fn(|_, _| deny())).map_rejection_response(hook);
    let (parts, _) = request().into_parts();
    let request = Request::from_parts(parts, ());
    let response = layer.layer(handler).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(response.into_body(), "{\"error\":\"access is denied\"}");
}

#[tokio::test]
async fn a_body_that_is_not_send_works() {
    for authorizer in [Later(Ok(Decision::Allow)), Later(Ok(deny()))] {
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
