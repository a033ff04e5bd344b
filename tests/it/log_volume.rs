//! How many lines requests can cause in the log.

use std::{io, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{Request, Response, StatusCode},
};
use http_body_util::Full;
use serde_json::json;
use tower::{Layer, ServiceExt, service_fn};
use tower_kube_auth::{
    ApiServer, JwksVerifier, ServiceAccountIdentity,
    authorizer::{AuthorizeError, Authorizer, Decision, RequestHead},
    client::{TokenRequestSource, TokenSource},
    server::AuthorizeLayer,
    testing::{Algorithm, IdentityBuilder, ManualClock, SigningKey},
};

use crate::support::{FakeVerifier, Log, Service, bearer, idle, token};

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

#[tokio::test]
async fn fetches_of_a_key_set_with_unusable_keys_or_none_warn_once() {
    let good = SigningKey::generate(Algorithm::ES256).unwrap().jwk();
    for (keys, warning) in [
        (json!([good, { "kty": "oct", "k": "AA" }]), "some keys of the JWK Set cannot be used"),
        (json!([]), "the issuer's key set is empty"),
    ] {
        let answer = Bytes::from(json!({ "keys": keys }).to_string());
        let api_server = ApiServer::from_service(service_fn(move |_: Request<Bytes>| {
            let response = Response::new(Full::new(answer.clone()));
            async move { Ok::<_, io::Error>(response) }
        }));
        let clock = ManualClock::new();
        let verifier = JwksVerifier::in_cluster(api_server)
            .issuer("https://issuer.example")
            .clock(clock.clock())
            .build()
            .unwrap();
        let (log, _watching) = Log::watch();
        for _ in 0..REQUESTS {
            verifier.refresh().await.unwrap();
        }
        clock.advance(Duration::from_secs(10));
        verifier.refresh().await.unwrap();
        let lines = log.lines();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines.iter().all(|line| line.contains(warning)), "{lines:?}");
        assert!(lines[1].contains("suppressed=49"), "{lines:?}");
    }
}

#[test]
fn callers_that_replace_a_task_on_a_stalled_runtime_warn_once() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (stalled, driven, clock) = (runtime(), runtime(), ManualClock::new());
    let api_server = ApiServer::from_service(service_fn(|_: Request<Bytes>| {
        std::future::pending::<Result<Response<Full<Bytes>>, io::Error>>()
    }));
    let source = TokenRequestSource::builder(api_server)
        .namespace("shop")
        .service_account("checkout")
        .audience("orders")
        .clock(clock.clock())
        .build()
        .unwrap();
    let (log, _watching) = Log::watch();
    stalled.block_on(async {
        tokio::select! {
            biased;
            _ = source.token() => panic!("the API server does not answer"),
            () = tokio::task::yield_now() => {}
        }
    });
    driven.block_on(async {
        let callers: Vec<_> = (0..REQUESTS)
            .map(|_| {
                let source = source.clone();
                tokio::spawn(async move { source.token().await })
            })
            .collect();
        // Until the callers replace the task, and until the new one's attempt ends.
        for _ in 0..2 {
            idle().await;
            clock.advance(Duration::from_secs(16));
        }
        for caller in callers {
            caller.await.unwrap().unwrap_err();
        }
    });
    let lines = log.lines();
    let replaced = lines.iter().filter(|line| line.contains("starting another one")).count();
    assert_eq!(replaced, 1, "{lines:?}");
}
