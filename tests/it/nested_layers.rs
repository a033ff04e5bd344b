//! A layer within another one, and the option for gRPC responses.

use std::time::Duration;

use axum::{
    Router,
    body::Body,
    http::{Method, Request, StatusCode, header},
    middleware::map_request,
};
use tower_kube_auth::Authenticator;

use crate::support::{Behavior, FakeVerifier, Service, anonymous, bearer, token};

type AddLayer = fn(Router, &Authenticator) -> Router;

const STRICT: AddLayer = |router, authenticator| router.layer(authenticator.layer());
const OPTIONAL: AddLayer = |router, authenticator| router.layer(authenticator.layer().optional());

/// Returns a service with the layer `inner.0` of `inner.1` within that of `outer`.
fn nested(outer: (AddLayer, &Authenticator), inner: (AddLayer, &Authenticator)) -> Service {
    Service::behind(|router| outer.0(inner.0(router, inner.1), outer.1))
}

#[tokio::test]
async fn a_nested_layer_keeps_the_identity_of_its_own_authenticator() {
    let verifier = FakeVerifier::accepting_asynchronously();
    let auth = verifier.authenticator();
    for outer in [STRICT, OPTIONAL] {
        for inner in [STRICT, OPTIONAL] {
            let service = nested((outer, &auth), (inner, &auth));
            for _ in ["miss", "hit"] {
                let answer = service.get(&token("a")).await;
                assert_eq!(answer.status, StatusCode::OK);
                assert!(answer.body.starts_with("system:serviceaccount:ns:sa "), "{}", answer.body);
            }
            assert_eq!(service.reached(), 2);
        }
    }
    assert_eq!(verifier.calls(), 1);
    let answer = nested((OPTIONAL, &auth), (STRICT, &auth)).blocked(anonymous()).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn the_identity_of_another_authenticator_does_not_count() {
    let auth = FakeVerifier::accepting().authenticator();
    let other = FakeVerifier::accepting().authenticator();
    let answer = nested((STRICT, &auth), (STRICT, &other)).blocked(bearer(&token("a"))).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    let answer = nested((STRICT, &auth), (OPTIONAL, &other)).get(&token("a")).await;
    assert!(answer.body.starts_with("nobody "), "{}", answer.body);
}

#[tokio::test]
async fn an_identity_that_expires_between_the_layers_does_not_count() {
    let verifier = FakeVerifier::new(Behavior::Accept);
    let life = Duration::from_secs(30);
    verifier.set(Behavior::AcceptUntil(verifier.clock.clock().wall() + life));
    let (auth, clock) = (verifier.authenticator(), verifier.clock.clone());
    let delay = map_request(move |request: Request<Body>| {
        clock.advance(life);
        std::future::ready(request)
    });
    let service =
        Service::behind(|router| router.layer(auth.layer()).layer(delay).layer(auth.layer()));
    let answer = service.blocked(bearer(&token("a"))).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.challenge().is_some());
}

#[tokio::test]
async fn without_the_option_a_grpc_request_gets_an_http_response() {
    let verifier = FakeVerifier::new(Behavior::Reject);
    for (enabled, status) in [(true, StatusCode::OK), (false, StatusCode::UNAUTHORIZED)] {
        let auth = verifier.authenticator();
        let service = Service::behind(|router| router.layer(auth.layer().grpc(enabled)));
        let mut request = bearer(&token("a"));
        *request.method_mut() = Method::POST;
        request.headers_mut().insert(header::CONTENT_TYPE, "application/grpc".parse().unwrap());
        let answer = service.blocked(request).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("grpc-status").is_some(), enabled);
    }
}
