//! How many lines requests can cause in the log.

use axum::{
    body::Body,
    http::{Request, Response, StatusCode},
};
use tower::{Layer, ServiceExt, service_fn};
use tower_kube_auth::{
    ServiceAccountIdentity,
    authorizer::{AuthorizeError, Authorizer, Decision, RequestHead},
    server::AuthorizeLayer,
    testing::IdentityBuilder,
};

use crate::support::{FakeVerifier, Log, Service, bearer, token};

const REQUESTS: usize = 50;

#[tokio::test]
async fn a_verifier_that_always_panics_logs_one_error_and_one_warning() {
    let verifier = FakeVerifier::scripted(|_| async { panic!("on purpose") });
    let service = Service::new(&verifier.authenticator());
    let (log, _watching) = Log::watch();
    for number in 0..REQUESTS {
        service.blocked(bearer(&token(&number.to_string()))).await.assert_unavailable();
    }
    let lines = log.lines();
    let of = |level| lines.iter().filter(|line| line.contains(level)).count();
    assert_eq!((of(" ERROR "), of(" WARN "), lines.len()), (1, 1, 2), "{lines:?}");

    verifier.advance(10.0);
    service.blocked(bearer(&token("later"))).await.assert_unavailable();
    let last = &log.lines()[2..];
    assert!(last.iter().any(|line| line.contains("panicked") && line.contains("suppressed=49")));
}

#[tokio::test]
async fn an_authorizer_that_always_panics_logs_one_error_and_one_warning() {
    struct Panics;
    impl Authorizer for Panics {
        async fn authorize(
            &self,
            _: &ServiceAccountIdentity,
            _: RequestHead<'_>,
        ) -> Result<Decision, AuthorizeError> {
            panic!("on purpose")
        }
    }
    let (log, _watching) = Log::watch();
    let reached = service_fn(async |_: Request<Body>| -> Result<Response<Body>, &str> {
        Err("the handler was reached")
    });
    let service = AuthorizeLayer::new(Panics).layer(reached);
    for _ in 0..REQUESTS {
        let mut request = Request::get("/").body(Body::empty()).unwrap();
        request.extensions_mut().insert(IdentityBuilder::new("shop", "checkout").build());
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(log.lines().len(), 2, "{:?}", log.lines());
}

#[tokio::test]
async fn a_missing_authenticate_layer_logs_one_error() {
    let (log, _watching) = Log::watch();
    let service = AuthorizeLayer::new(tower_kube_auth::authorizer::AllowList::any_authenticated())
        .layer(service_fn(async |_: Request<Body>| Ok::<_, &str>(Response::new(Body::empty()))));
    for _ in 0..REQUESTS {
        let request = Request::get("/").body(Body::empty()).unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
    assert_eq!(log.lines().len(), 1, "{:?}", log.lines());
}
