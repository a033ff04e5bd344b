//! The whole thing on a laptop, with no cluster: who is let in, who is not, and what it costs.
//!
//! `cargo run --example quickstart` starts an embedded cluster and an axum service on loopback, and shows a transcript.
//! `cargo run --example quickstart -- --serve` keeps both running and prints the curl commands to try.

use std::{error::Error, time::Duration};

use axum::{Router, routing::get};
use tower_kube_auth::{
    Authenticator, JwksVerifier, ServiceAccountIdentity, TokenReviewVerifier,
    testing::{Cluster, Endpoint},
};

const AUDIENCE: &str = "orders";
const TTL: Duration = Duration::from_secs(3);

async fn whoami(caller: ServiceAccountIdentity) -> String {
    let pod = caller.pod().map(|pod| format!(", in Pod {}", pod.name)).unwrap_or_default();
    format!("hello, {}{pod}", caller.username())
}

/// One route for each way of verifying.
fn app(cluster: &Cluster) -> Result<Router, Box<dyn Error>> {
    let review = Authenticator::builder(TokenReviewVerifier::new(cluster.kube_client()?))
        .audience(AUDIENCE)
        .cache_ttl(TTL)
        .build()?;
    let offline = Authenticator::builder(JwksVerifier::in_cluster(cluster.kube_client()?).build()?)
        .audience(AUDIENCE)
        .cache_ttl(TTL)
        .build()?;
    let by_review = Router::new().route("/token-review", get(whoami)).layer(review.layer());
    let by_keys = Router::new().route("/jwks", get(whoami)).layer(offline.layer());
    Ok(by_review.merge(by_keys))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let cluster = Cluster::start().await?;
    cluster.create_service_account("shop", "checkout");
    cluster.create_pod("shop", "checkout-1", "checkout");

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let server = axum::serve(listener, app(&cluster)?);
    match std::env::args().nth(1).as_deref() {
        Some("--serve") => {
            print_commands(&cluster, &url)?;
            server.with_graceful_shutdown(async { _ = tokio::signal::ctrl_c().await }).await?;
            Ok(())
        }
        None => {
            tokio::spawn(server.into_future());
            show(&cluster, &url).await
        }
        Some(other) => Err(format!("unknown argument {other:?}: there is only --serve").into()),
    }
}

async fn show(cluster: &Cluster, url: &str) -> Result<(), Box<dyn Error>> {
    let shop = || cluster.token("shop", "checkout");
    let token = shop().audience(AUDIENCE).bound_to_pod("checkout-1").issue()?;
    let for_somebody_else = shop().audience("payments").issue()?;

    println!(
        "An API server of the embedded cluster: {}\nA service behind tower-kube-auth:      {url}",
        cluster.url()
    );

    heading("No token");
    expect(ask(url, "/token-review", None).await?, 401);

    heading("A token for another audience");
    expect(ask(url, "/token-review", Some(&for_somebody_else)).await?, 401);

    heading("The right token, by TokenReview");
    expect(ask(url, "/token-review", Some(&token)).await?, 200);

    heading("The same, by JWKS");
    expect(ask(url, "/jwks", Some(&token)).await?, 200);

    heading("Again: from the cache");
    let before = cluster.calls(Endpoint::TokenReview);
    expect(ask(url, "/token-review", Some(&token)).await?, 200);
    let after = cluster.calls(Endpoint::TokenReview);
    println!("    TokenReviews that the API server has seen: {before} before, {after} after");
    assert_eq!(before, after);

    heading("The Pod is deleted, and the TTL of 3 s is over");
    cluster.delete_pod("shop", "checkout-1");
    tokio::time::sleep(TTL + TTL / 5).await;
    expect(ask(url, "/token-review", Some(&token)).await?, 401);
    println!("    (offline nobody sees that; the token stays good until it expires)");
    expect(ask(url, "/jwks", Some(&token)).await?, 200);

    heading("The API server is down: our trouble, never a 401");
    let fresh = shop().audience(AUDIENCE).issue()?;
    cluster.go_down().await?;
    expect(ask(url, "/token-review", Some(&fresh)).await?, 503);
    expect(ask(url, "/jwks", Some(&fresh)).await?, 200);

    heading("The API server is back: recovery needs no help");
    cluster.come_up().await?;
    expect(ask(url, "/token-review", Some(&fresh)).await?, 200);
    Ok(())
}

struct Answer {
    status: u16,
    text: String,
}

async fn ask(url: &str, path: &str, token: Option<&str>) -> Result<Answer, Box<dyn Error>> {
    let mut request = reqwest::Client::new().get(format!("{url}{path}"));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let response = request.send().await?;
    let status = response.status();
    let mut text = format!("    GET {path}\n    {status}");
    for name in ["www-authenticate", "retry-after"] {
        if let Some(value) = response.headers().get(name) {
            text += &format!("\n    {name}: {}", value.to_str()?);
        }
    }
    text += &format!("\n    {}", response.text().await?);
    Ok(Answer { status: status.as_u16(), text })
}

fn heading(text: &str) {
    println!("\n* {text}");
}

fn expect(answer: Answer, status: u16) {
    println!("{}", answer.text);
    assert_eq!(answer.status, status);
}

fn print_commands(cluster: &Cluster, url: &str) -> Result<(), Box<dyn Error>> {
    let good =
        cluster.token("shop", "checkout").audience(AUDIENCE).bound_to_pod("checkout-1").issue()?;
    let other = cluster.token("shop", "checkout").audience("payments").issue()?;
    println!("The service listens on {url} until Ctrl-C. Try:\n");
    println!("GOOD={good}\nOTHER={other}\n");
    println!("curl -i {url}/token-review");
    println!("curl -i -H \"Authorization: Bearer $OTHER\" {url}/token-review");
    println!("curl -i -H \"Authorization: Bearer $GOOD\" {url}/token-review");
    println!("curl -i -H \"Authorization: Bearer $GOOD\" {url}/jwks");
    Ok(())
}
