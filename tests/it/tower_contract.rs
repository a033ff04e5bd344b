//! The contract of a Tower middleware: readiness, any body type, clones.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use axum::http::{Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer, service_fn};
use tower_kube_auth::server::{Authenticate, AuthenticateLayer};

use crate::support::{Behavior, FakeVerifier, token};

fn request<B>(token: &str, body: B) -> Request<B> {
    Request::post("/").header("authorization", format!("Bearer {token}")).body(body).unwrap()
}

#[test]
fn layer_and_service_are_send_sync_and_clone() {
    fn check<T: Send + Sync + Clone + 'static>(_: T) {}
    let layer: AuthenticateLayer = FakeVerifier::accepting().authenticator().layer();
    check(layer.clone());
    let inner = service_fn(async |_: Request<Full<Bytes>>| {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    });
    let service: Authenticate<_> = layer.layer(inner);
    check(service);
}

/// Panics if it is called without having been polled ready, as `ConcurrencyLimit` and `Buffer` do.
struct Strict {
    ready: bool,
    calls: Arc<AtomicUsize>,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self { ready: false, calls: self.calls.clone() }
    }
}

impl Service<Request<Full<Bytes>>> for Strict {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Full<Bytes>>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without being ready");
        self.calls.fetch_add(1, Ordering::SeqCst);
        std::future::ready(Ok(Response::default()))
    }
}

#[tokio::test]
async fn the_service_that_was_polled_ready_is_the_one_that_is_called() {
    for verifier in [FakeVerifier::accepting(), FakeVerifier::accepting_asynchronously()] {
        let calls = Arc::new(AtomicUsize::new(0));
        let mut service =
            verifier.authenticator().layer().layer(Strict { ready: false, calls: calls.clone() });
        for _ in ["miss", "hit", "hit"] {
            let response = service
                .ready()
                .await
                .unwrap()
                .call(request(&token("a"), Full::default()))
                .await
                .unwrap();
            assert_eq!(response.status(), StatusCode::OK);
        }
        assert_eq!(calls.load(Ordering::SeqCst), 3);
        assert_eq!(verifier.calls(), 1);
    }
}

#[tokio::test]
async fn an_inner_concurrency_limit_works() {
    for verifier in [FakeVerifier::accepting(), FakeVerifier::accepting_asynchronously()] {
        let inner = service_fn(async |_: Request<Full<Bytes>>| {
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        });
        let service = ServiceBuilder::new()
            .layer(verifier.authenticator().layer())
            .layer(ConcurrencyLimitLayer::new(1))
            .service(inner);
        let requests: Vec<_> = (0..20)
            .map(|name| {
                let service = service.clone();
                tokio::spawn(
                    service.oneshot(request(&token(&(name % 3).to_string()), Full::default())),
                )
            })
            .collect();
        for request in requests {
            assert_eq!(request.await.unwrap().unwrap().status(), StatusCode::OK);
        }
    }
}

#[tokio::test]
async fn a_request_that_waits_for_verification_holds_no_inner_permit() {
    let verifier = FakeVerifier::accepting_asynchronously();
    let inner = service_fn(async |_: Request<Full<Bytes>>| {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    });
    let service = ServiceBuilder::new()
        .layer(verifier.authenticator().layer())
        .layer(ConcurrencyLimitLayer::new(1))
        .service(inner);
    let send = |name: &str| service.clone().oneshot(request(&token(name), Full::default()));
    assert_eq!(send("cached").await.unwrap().status(), StatusCode::OK);

    verifier.set(Behavior::Hang);
    // The service outlives the call: readiness must not keep the permit in it.
    let mut kept = service.clone();
    let junk = request(&token("junk"), Full::default());
    let waiting = tokio::spawn(async move { kept.ready().await.unwrap().call(junk).await });
    verifier.wait_for_calls(2).await;
    let cached = tokio::time::timeout(std::time::Duration::from_secs(30), send("cached")).await;
    assert_eq!(cached.expect("the permit is free").unwrap().status(), StatusCode::OK);

    verifier.resume(Behavior::Reject);
    assert_eq!(waiting.await.unwrap().unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(send("cached").await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn the_back_pressure_of_the_inner_service_is_propagated() {
    #[derive(Clone)]
    struct NeverReady;
    impl Service<Request<Full<Bytes>>> for NeverReady {
        type Response = Response<Full<Bytes>>;
        type Error = Infallible;
        type Future = std::future::Pending<Result<Self::Response, Infallible>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Pending
        }
        fn call(&mut self, _: Request<Full<Bytes>>) -> Self::Future {
            std::future::pending()
        }
    }
    let mut service = FakeVerifier::accepting().authenticator().layer().layer(NeverReady);
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(service.poll_ready(&mut cx).is_pending());
}

#[tokio::test]
async fn streaming_bodies_pass_unchanged_in_both_directions() {
    type Stream = BoxBody<Bytes, Infallible>;
    let echo = service_fn(async |request: Request<Stream>| {
        Ok::<_, Infallible>(Response::new(request.into_body()))
    });
    let service = FakeVerifier::accepting_asynchronously().authenticator().layer().layer(echo);
    let chunks = ["a", "b", "c"]
        .map(|chunk| Ok::<_, Infallible>(http_body::Frame::data(Bytes::from(chunk))));
    let body = StreamBody::new(Chunks(chunks.into_iter().collect())).boxed();
    let response = service.clone().oneshot(request(&token("a"), body)).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "abc");

    let rejected = service.oneshot(Request::new(Full::<Bytes>::default().boxed())).await.unwrap();
    assert_eq!(rejected.status(), StatusCode::UNAUTHORIZED);
    assert!(rejected.into_body().collect().await.unwrap().to_bytes().is_empty());
}

struct Chunks(std::collections::VecDeque<Result<http_body::Frame<Bytes>, Infallible>>);

impl futures_core::Stream for Chunks {
    type Item = Result<http_body::Frame<Bytes>, Infallible>;
    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.pop_front())
    }
}

#[tokio::test]
async fn a_body_type_without_default_works_with_a_hook() {
    #[derive(Debug, PartialEq)]
    struct NoDefault(&'static str);
    let layer = FakeVerifier::accepting().authenticator().layer().map_rejection_response(
        |response: Response<()>, _: &tower_kube_auth::server::Rejection| {
            response.map(|()| NoDefault("no"))
        },
    );
    let inner =
        service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(NoDefault("yes"))));
    let service = layer.layer(inner);
    assert_eq!(
        service.clone().oneshot(request(&token("a"), ())).await.unwrap().into_body(),
        NoDefault("yes")
    );
    assert_eq!(service.oneshot(Request::new(())).await.unwrap().into_body(), NoDefault("no"));
}
