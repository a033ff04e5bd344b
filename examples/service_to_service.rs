//! Two axum services in one process, each with its own ServiceAccount and audience: `checkout` calls `orders` with a
//! token from the TokenRequest API, and `orders` greets it by name. Then three token lives pass under load, and no request fails.
//!
//! `cargo run --example service_to_service` needs no cluster, and no patience: an embedded cluster stands in for
//! Kubernetes, and it and both services go by a clock that the example moves.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::{collections::BTreeSet, error::Error, net::SocketAddr, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{Request, StatusCode},
    routing::get,
};
use http_body_util::BodyExt;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{net::TcpListener, task::JoinSet};
use tower::{ServiceBuilder, ServiceExt};
use tower_kube_auth::{
    Authenticator, ServiceAccountIdentity, TokenReviewVerifier,
    client::{AddToken, AddTokenLayer, TokenRequestSource, TokenSource},
    testing::{Cluster, Endpoint, ManualClock},
};

type BoxError = Box<dyn Error + Send + Sync>;

/// The shortest life that Kubernetes grants.
const LIFE: Duration = Duration::from_secs(600);
const STEP: Duration = Duration::from_secs(10);
const STEPS: u32 = 180;
const REQUESTS_PER_STEP: usize = 20;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let clock = ManualClock::new();
    let cluster = Cluster::builder().clock(clock.clock()).start().await?;
    for name in ["customer", "checkout", "orders"] {
        cluster.create_service_account("shop", name);
    }

    // B, the called service: one line to authenticate, one to use it.
    let verifier = TokenReviewVerifier::new(cluster.kube_client()?).clock(clock.clock());
    let auth = Authenticator::builder(verifier).audience("orders").clock(clock.clock()).build()?;
    let orders = serve(Router::new().route("/", get(hello)).layer(auth.layer())).await?;

    // A, the caller: one line to get tokens, one to send them. It has callers of its own, by another audience.
    let source = TokenRequestSource::builder(client_of_checkout(&cluster)?)
        .namespace("shop")
        .service_account("checkout")
        .audience("orders")
        .expires_in(LIFE)
        .clock(clock.clock())
        .build()?;
    let add_token = AddTokenLayer::new(source.clone(), [format!("http://{orders}")])?;
    let to_orders = ServiceBuilder::new()
        .layer(add_token)
        .service(Client::builder(TokioExecutor::new()).build_http());
    let verifier = TokenReviewVerifier::new(cluster.kube_client()?).clock(clock.clock());
    let auth =
        Authenticator::builder(verifier).audience("checkout").clock(clock.clock()).build()?;
    let checkout = Router::new()
        .route("/", get(buy))
        .with_state(Downstream { to_orders, orders })
        .layer(auth.layer());

    // A customer of A, whose token is no good at B.
    let customer =
        cluster.token("shop", "customer").audience("checkout").expires_in(LIFE * 10).issue()?;
    let body = ask(&checkout, &customer).await?;
    println!("{body}");
    assert_eq!(
        body,
        "checkout serves system:serviceaccount:shop:customer; \
         orders says: hello, system:serviceaccount:shop:checkout"
    );

    println!(
        "{} s of load, in which each token lives {} s:",
        (STEP * STEPS).as_secs(),
        LIFE.as_secs()
    );
    let mut tokens = BTreeSet::new();
    let (mut requests, mut failed) = (0, 0);
    for _ in 0..STEPS {
        tokens.insert(source.token().await?.expires_at());
        let mut load = JoinSet::new();
        for _ in 0..REQUESTS_PER_STEP {
            let (checkout, customer) = (checkout.clone(), customer.clone());
            load.spawn(async move { ask(&checkout, &customer).await.is_ok() });
        }
        for succeeded in load.join_all().await {
            requests += 1;
            failed += u32::from(!succeeded);
        }
        clock.advance(STEP);
    }
    let issued = cluster.calls(Endpoint::TokenRequest);
    println!(
        "   {requests} requests, {failed} failed; {issued} tokens requested, {} of them seen",
        tokens.len()
    );
    assert_eq!(failed, 0);
    assert!((3..=5).contains(&issued), "1800 s, refreshed about every 470 s");
    Ok(())
}

/// B's handler.
async fn hello(caller: ServiceAccountIdentity) -> String {
    format!("hello, {}", caller.username())
}

/// A's handler, which calls B.
async fn buy(
    caller: ServiceAccountIdentity,
    State(to): State<Downstream>,
) -> Result<String, StatusCode> {
    let answer = to.get().await.map_err(|_| StatusCode::BAD_GATEWAY)?;
    Ok(format!("checkout serves {}; orders says: {answer}", caller.username()))
}

#[derive(Clone)]
struct Downstream {
    to_orders: AddToken<Client<HttpConnector, Body>>,
    orders: SocketAddr,
}

impl Downstream {
    async fn get(&self) -> Result<String, BoxError> {
        let request = Request::get(format!("http://{}/", self.orders)).body(Body::empty())?;
        let response = self.to_orders.clone().oneshot(request).await?;
        if response.status() != StatusCode::OK {
            return Err(format!("orders answered {}", response.status()).into());
        }
        Ok(String::from_utf8(response.into_body().collect().await?.to_bytes().into())?)
    }
}

async fn ask(checkout: &Router, customer: &str) -> Result<String, BoxError> {
    let request = Request::get("/")
        .header("authorization", format!("Bearer {customer}"))
        .body(Body::empty())?;
    let response = checkout.clone().oneshot(request).await?;
    let status = response.status();
    let body = String::from_utf8(response.into_body().collect().await?.to_bytes().into())?;
    if status == StatusCode::OK {
        Ok(body)
    } else {
        Err(format!("checkout answered {status}: {body}").into())
    }
}

/// `checkout` may request tokens of itself, and nothing else (`examples/kubernetes/client-token-request.yaml`).
fn client_of_checkout(cluster: &Cluster) -> Result<kube::Client, BoxError> {
    cluster.grant_token_request("system:serviceaccount:shop:checkout", "shop", &["checkout"]);
    // In a Pod this is the mounted token, which kubelet keeps fresh.
    let own = cluster.token("shop", "checkout").expires_in(LIFE * 10).issue()?;
    Ok(cluster.client_for(own)?)
}

async fn serve(app: Router) -> Result<SocketAddr, BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(address)
}
