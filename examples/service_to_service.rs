//! Two axum services, each with its own ServiceAccount and audience: `checkout` calls `orders` with
//! a token from the TokenRequest API. No request fails while three lifetimes of a token pass.
//!
//! `cargo run --example service_to_service` needs no cluster: an embedded one stands in for
//! Kubernetes. The example moves the clock of the cluster and of both services.

use std::{error::Error, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, Response, StatusCode},
    routing::get,
};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{net::TcpListener, task::JoinSet};
use tower::{ServiceBuilder, ServiceExt};
use tower_kube_auth::{
    Authenticator, ServiceAccountIdentity, TokenReviewVerifier,
    client::{AddTokenLayer, TokenRequestSource},
    testing::{Cluster, Endpoint, ManualClock},
};

type BoxError = Box<dyn Error + Send + Sync>;

/// The shortest lifetime that Kubernetes grants.
const LIFETIME: Duration = Duration::from_secs(600);
/// Shorter than the time limit of one attempt to get a token.
const STEP: Duration = Duration::from_secs(1);
const STEPS: u32 = 1800;
const REQUESTS_PER_STEP: usize = 2;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let clock = ManualClock::new();
    let cluster = Cluster::builder().clock(clock.clock()).start().await?;
    for name in ["customer", "checkout", "orders"] {
        cluster.create_service_account("shop", name);
    }

    // The called service.
    let orders = async |caller: ServiceAccountIdentity| format!("hello, {}", caller.username());
    let orders_auth = authenticator("orders", &cluster, &clock)?;
    let orders = Router::new().route("/", get(orders)).layer(orders_auth.layer());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let orders_url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, orders).await });

    // The caller may request tokens of itself (examples/kubernetes/client-token-request.yaml). In a
    // Pod, its own token is the mounted one, which the kubelet refreshes.
    cluster.grant_token_request("system:serviceaccount:shop:checkout", "shop", &["checkout"]);
    let own_token = cluster.token("shop", "checkout").expires_in(LIFETIME * 10).issue()?;
    let source = TokenRequestSource::builder(cluster.client_for(own_token)?)
        .namespace("shop")
        .service_account("checkout")
        .audience("orders")
        .expires_in(LIFETIME)
        .clock(clock.clock())
        .build()?;
    let to_orders = ServiceBuilder::new()
        .layer(AddTokenLayer::new(source, [orders_url.clone()])?)
        .service(Client::builder(TokioExecutor::new()).build_http::<Body>());
    let checkout = async move |caller: ServiceAccountIdentity| {
        let bad_gateway = StatusCode::BAD_GATEWAY;
        let request = Request::get(&orders_url).body(Body::empty()).map_err(|_| bad_gateway)?;
        let response = to_orders.oneshot(request).await.map_err(|_| bad_gateway)?;
        let text = read(response.map(Body::new)).await.map_err(|_| bad_gateway)?;
        Ok::<_, StatusCode>(format!("checkout serves {}; orders says: {text}", caller.username()))
    };
    let checkout_auth = authenticator("checkout", &cluster, &clock)?;
    let checkout = Router::new().route("/", get(checkout)).layer(checkout_auth.layer());

    // The customer's token is for `checkout`; `orders` would reject it.
    let customer =
        cluster.token("shop", "customer").audience("checkout").expires_in(LIFETIME * 10).issue()?;
    let text = call(checkout.clone(), customer.clone()).await?;
    println!("{text}");
    assert!(text.ends_with("orders says: hello, system:serviceaccount:shop:checkout"));

    println!("{:?} of load; a token lives {LIFETIME:?}:", STEP * STEPS);
    for _ in 0..STEPS {
        let mut load = JoinSet::new();
        for _ in 0..REQUESTS_PER_STEP {
            load.spawn(call(checkout.clone(), customer.clone()));
        }
        for response in load.join_all().await {
            response?;
        }
        // Advancing the clock would end the verifications that refresh the cache in the background.
        while orders_auth.metrics().in_flight + checkout_auth.metrics().in_flight > 0 {
            tokio::task::yield_now().await;
        }
        clock.advance(STEP);
    }
    let issued = cluster.calls(Endpoint::TokenRequest);
    println!("   no request failed; {issued} tokens requested");
    assert!(issued >= 3, "1800 s, refreshed about every 470 s");
    Ok(())
}

fn authenticator(
    audience: &str,
    cluster: &Cluster,
    clock: &ManualClock,
) -> Result<Authenticator, BoxError> {
    let verifier = TokenReviewVerifier::new(cluster.kube_client()?).clock(clock.clock());
    Ok(Authenticator::builder(verifier).audience(audience).clock(clock.clock()).build()?)
}

async fn call(service: Router, token: String) -> Result<String, BoxError> {
    let request = Request::get("/").header("authorization", format!("Bearer {token}"));
    read(service.oneshot(request.body(Body::empty())?).await?).await
}

async fn read(response: Response<Body>) -> Result<String, BoxError> {
    let status = response.status();
    let text = String::from_utf8(to_bytes(response.into_body(), 4096).await?.into())?;
    if status.is_success() { Ok(text) } else { Err(format!("{status}: {text}").into()) }
}
