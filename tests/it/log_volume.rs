//! How many lines requests can cause in the log.

use std::{
    io,
    sync::{Arc, Mutex},
};

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
use tracing::{Level, subscriber::DefaultGuard};

use crate::support::{FakeVerifier, Service, bearer, token};

const REQUESTS: usize = 50;

/// What this thread logs at WARN and above.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn watch() -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::WARN)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn lines(&self) -> Vec<String> {
        String::from_utf8_lossy(&self.0.lock().unwrap()).lines().map(str::to_owned).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

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
