//! The caller's side end to end: real files, real TLS, a real HTTP client.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, http::HeaderMap, routing::get};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::{Layer, ServiceExt};
use tower_kube_auth::{
    Authenticator, ServiceAccountIdentity, TokenReviewVerifier,
    client::{
        AddToken, AddTokenLayer, ProjectedToken, TokenErrorKind, TokenRequestSource, TokenSource,
    },
    testing::{Cluster, Endpoint, Fault, ManualClock},
};

use crate::support::{Fixture, until};

const CHECKOUT: &str = "system:serviceaccount:shop:checkout";

/// Returns a source that acts as `checkout` itself, with only the right to request its tokens.
fn token_requests(cluster: &Cluster, clock: &ManualClock) -> TokenRequestSource {
    cluster.grant_token_request(CHECKOUT, "shop", &["checkout"]);
    let own = cluster
        .token("shop", "checkout")
        .expires_in(Duration::from_secs(30 * 86_400))
        .issue()
        .unwrap();
    let client = cluster.client_for(own).unwrap();
    let builder = TokenRequestSource::builder(client)
        .namespace("shop")
        .service_account("checkout")
        .audience("orders");
    builder.clock(clock.clock()).build().unwrap()
}

/// A projected volume, removed at the end of the test.
struct Volume(PathBuf);

impl Volume {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!(
            "tower-kube-auth-{}-{:08x}",
            std::process::id(),
            fastrand::u32(..)
        )))
    }

    fn write(&self, cluster: &Cluster) -> String {
        let token = cluster.token("shop", "checkout").audience("orders").issue().unwrap();
        cluster.write_projected_volume(&self.0, &token).unwrap();
        token
    }

    fn source(&self, clock: &ManualClock) -> ProjectedToken {
        ProjectedToken::new(self.0.join("token")).clock(clock.clock())
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn serve(app: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// Serves the username of callers whose token the cluster accepts.
async fn orders(cluster: &Cluster) -> SocketAddr {
    let verifier = TokenReviewVerifier::new(cluster.kube_client().unwrap());
    let auth = Authenticator::builder(verifier)
        .audience("orders")
        .cache_ttl(Duration::ZERO)
        .reject_ttl(Duration::ZERO);
    let hello = async |caller: ServiceAccountIdentity| caller.username().to_owned();
    serve(Router::new().route("/", get(hello)).layer(auth.build().unwrap().layer())).await
}

type HttpClient = AddToken<Client<HttpConnector, Body>>;

fn client(source: impl TokenSource, to: SocketAddr) -> HttpClient {
    let layer = AddTokenLayer::new(source, [format!("http://{to}")]).unwrap();
    layer.layer(Client::builder(TokioExecutor::new()).build_http())
}

async fn ask(client: &HttpClient, address: SocketAddr) -> (StatusCode, String) {
    let request = Request::get(format!("http://{address}/")).body(Body::empty()).unwrap();
    let response = client.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.into()).unwrap())
}

#[tokio::test]
async fn concurrent_and_later_requests_share_one_token_request() {
    let Fixture { cluster, clock } = Fixture::start().await;
    let orders = orders(&cluster).await;
    let client = client(token_requests(&cluster, &clock), orders);
    let load: Vec<_> = (0..200)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { ask(&client, orders).await })
        })
        .collect();
    for answer in load {
        assert_eq!(answer.await.unwrap(), (StatusCode::OK, CHECKOUT.to_owned()));
    }
    assert_eq!(cluster.calls(Endpoint::TokenRequest), 1, "one for the concurrent requests");
    let source = token_requests(&cluster, &clock);
    for _ in 0..1000 {
        source.token().await.unwrap();
    }
    assert_eq!(cluster.calls(Endpoint::TokenRequest), 2, "one for the later requests");
}

#[tokio::test]
async fn after_a_401_the_next_request_gets_a_new_token() {
    let Fixture { cluster, clock } = Fixture::start().await;
    let orders = orders(&cluster).await;
    // The source's own credential is not that of `checkout`, so it survives the deletion.
    let source = TokenRequestSource::builder(cluster.admin_client().unwrap()).namespace("shop");
    let source =
        source.service_account("checkout").audience("orders").clock(clock.clock()).build().unwrap();
    let client = client(source, orders);
    assert_eq!(ask(&client, orders).await.0, StatusCode::OK);
    cluster.delete_service_account("shop", "checkout");
    cluster.create_service_account("shop", "checkout");
    assert_eq!(
        ask(&client, orders).await.0,
        StatusCode::UNAUTHORIZED,
        "the request is not repeated"
    );
    assert_eq!(ask(&client, orders).await.0, StatusCode::OK);
    assert_eq!(cluster.calls(Endpoint::TokenRequest), 2);
}

#[tokio::test]
async fn a_server_at_another_port_never_sees_the_token() {
    let Fixture { cluster, clock } = Fixture::start().await;
    let orders = orders(&cluster).await;
    let show = async |headers: HeaderMap| headers.contains_key("authorization").to_string();
    let elsewhere = serve(Router::new().route("/", get(show))).await;
    let client = client(token_requests(&cluster, &clock), orders);
    assert_eq!(ask(&client, orders).await.0, StatusCode::OK);
    assert_eq!(ask(&client, elsewhere).await.1, "false");
}

#[tokio::test]
async fn each_faulty_answer_of_the_api_server_is_an_error_without_the_token() {
    let Fixture { cluster, clock } = Fixture::start().await;
    let token = cluster.token("shop", "checkout").audience("orders").issue().unwrap();
    let half = format!("{{\"status\":{{\"token\":\"{token}\"");
    let wrong =
        format!("{{\"status\":{{\"token\":\"{token}\",\"expirationTimestamp\":\"{token}\"}}}}");
    let cases = [
        (Fault::BrokenJson, TokenErrorKind::InvalidResponse),
        (Fault::EmptyBody, TokenErrorKind::InvalidResponse),
        (Fault::Body(half), TokenErrorKind::InvalidResponse),
        (Fault::Body(wrong), TokenErrorKind::InvalidResponse),
        (Fault::Status { code: 403, retry_after: None }, TokenErrorKind::Forbidden),
        (Fault::Status { code: 401, retry_after: None }, TokenErrorKind::Unauthenticated),
        (Fault::Status { code: 404, retry_after: None }, TokenErrorKind::InvalidRequest),
        (Fault::Status { code: 503, retry_after: Some(60) }, TokenErrorKind::Unavailable),
    ];
    for (fault, kind) in cases {
        cluster.set_fault(Endpoint::TokenRequest, fault.clone());
        let error = token_requests(&cluster, &clock).token().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{fault:?}: {error}");
        assert!(!format!("{error} {error:?}").contains(&token[..20]), "{error:?}");
    }
}

#[tokio::test]
async fn the_volume_is_read_again_after_kubelets_symlink_swap() {
    let Fixture { cluster, clock } = Fixture::start().await;
    let volume = Volume::new();
    let first = volume.write(&cluster);
    let source = volume.source(&clock);
    assert_eq!(source.token().await.unwrap().expose_secret(), first);
    let second = volume.write(&cluster);
    assert_eq!(source.token().await.unwrap().expose_secret(), first, "from memory");
    clock.advance(Duration::from_secs(60));
    until("the second token is read", async || {
        source.token().await.unwrap().expose_secret() == second
    })
    .await;
}

#[tokio::test]
async fn no_reader_sees_a_partial_swap() {
    let Fixture { cluster, clock } = Fixture::start().await;
    let volume = Volume::new();
    let token = volume.write(&cluster);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                cluster.write_projected_volume(&volume.0, &token).unwrap();
            }
        });
        // On its own thread, because a runtime cannot be driven inside another one.
        let reader = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let read = || runtime.block_on(volume.source(&clock).token());
            (0..500).all(|_| read().is_ok_and(|read| read.expose_secret() == token))
        });
        let whole = reader.join();
        stop.store(true, Ordering::Relaxed);
        assert!(whole.unwrap(), "a reader saw a partial swap");
    });
}

#[tokio::test]
async fn between_refreshes_the_file_system_is_not_touched() {
    let Fixture { cluster, clock } = Fixture::start().await;
    let volume = Volume::new();
    let token = volume.write(&cluster);
    let source = Arc::new(volume.source(&clock));
    source.token().await.unwrap();
    std::fs::remove_dir_all(&volume.0).unwrap();
    for _ in 0..10_000 {
        assert_eq!(source.token().await.unwrap().expose_secret(), token, "the file is gone");
    }
}
