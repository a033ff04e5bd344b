//! A tour without a cluster: which requests are accepted, which are not, and what they cost.
//!
//! `cargo run --example quickstart` starts an embedded cluster and an axum service on loopback, and
//! prints requests and responses. With `-- --serve`, both run until Ctrl-C, and curl commands are
//! printed.

use std::{error::Error, time::Duration};

use axum::{Router, routing::get};
use tower_kube_auth::{
    Authenticator, JwksVerifier, ServiceAccountIdentity, TokenReviewVerifier, Verifier,
    testing::{Cluster, Endpoint},
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const AUDIENCE: &str = "orders";
const TTL: Duration = Duration::from_secs(3);

async fn whoami(caller: ServiceAccountIdentity) -> String {
    let pod = caller.pod().map(|pod| format!(", in Pod {}", pod.name)).unwrap_or_default();
    format!("hello, {}{pod}", caller.username())
}

fn route<V: Verifier>(path: &str, verifier: V) -> Outcome<Router> {
    let auth = Authenticator::builder(verifier).audience(AUDIENCE).cache_ttl(TTL).build()?;
    Ok(Router::new().route(path, get(whoami)).layer(auth.layer()))
}

fn app(cluster: &Cluster) -> Outcome<Router> {
    let review = TokenReviewVerifier::new(cluster.kube_client()?);
    let offline = JwksVerifier::in_cluster(cluster.kube_client()?).build()?;
    Ok(route("/token-review", review)?.merge(route("/jwks", offline)?))
}

#[tokio::main]
async fn main() -> Outcome {
    let cluster = Cluster::start().await?;
    cluster.create_service_account("shop", "checkout");
    cluster.create_pod("shop", "checkout-1", "checkout");

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let server = axum::serve(listener, app(&cluster)?);
    if std::env::args().any(|argument| argument == "--serve") {
        print_commands(&cluster, &url)?;
        let ended = async { _ = tokio::signal::ctrl_c().await };
        return Ok(server.with_graceful_shutdown(ended).await?);
    }
    tokio::spawn(server.into_future());
    show(&cluster, &url).await
}

async fn show(cluster: &Cluster, url: &str) -> Outcome {
    let (token, other) = tokens(cluster)?;
    println!("API server of the embedded cluster: {}, service: {url}", cluster.url());
    println!("\n* No token");
    expect(401, url, "/token-review", None).await?;
    println!("\n* A token for another audience");
    expect(401, url, "/token-review", Some(&other)).await?;
    println!("\n* The right token, by TokenReview");
    expect(200, url, "/token-review", Some(&token)).await?;
    println!("\n* The same, by JWKS");
    expect(200, url, "/jwks", Some(&token)).await?;
    println!("\n* Again: from the cache");
    let before = cluster.calls(Endpoint::TokenReview);
    expect(200, url, "/token-review", Some(&token)).await?;
    assert_eq!(cluster.calls(Endpoint::TokenReview), before);
    println!("    TokenReviews that the API server has seen: {before}, as before");
    println!("\n* The Pod is deleted, and the TTL of 3 s is over");
    cluster.delete_pod("shop", "checkout-1");
    tokio::time::sleep(TTL + TTL / 5).await;
    expect(401, url, "/token-review", Some(&token)).await?;
    println!("    (JWKS does not notice: the token is valid until it expires)");
    expect(200, url, "/jwks", Some(&token)).await?;
    println!("\n* The API server is down: 503, never a 401");
    let fresh = cluster.token("shop", "checkout").audience(AUDIENCE).issue()?;
    cluster.go_down().await?;
    expect(503, url, "/token-review", Some(&fresh)).await?;
    expect(200, url, "/jwks", Some(&fresh)).await?;
    println!("\n* The API server is back: the service recovers by itself");
    cluster.come_up().await?;
    expect(200, url, "/token-review", Some(&fresh)).await?;
    Ok(())
}

async fn expect(expected: u16, url: &str, path: &str, token: Option<&str>) -> Outcome {
    let mut request = reqwest::Client::new().get(format!("{url}{path}"));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let response = request.send().await?;
    let status = response.status();
    println!("    GET {path}\n    {status}");
    for name in ["www-authenticate", "retry-after"] {
        if let Some(value) = response.headers().get(name) {
            println!("    {name}: {}", value.to_str()?);
        }
    }
    println!("    {}", response.text().await?);
    assert_eq!(status, expected);
    Ok(())
}

/// Returns a token for this service, and one for another audience.
fn tokens(cluster: &Cluster) -> Outcome<(String, String)> {
    let token = || cluster.token("shop", "checkout");
    let good = token().audience(AUDIENCE).bound_to_pod("checkout-1").issue()?;
    Ok((good, token().audience("payments").issue()?))
}

fn print_commands(cluster: &Cluster, url: &str) -> Outcome {
    let (good, other) = tokens(cluster)?;
    println!("The service listens on {url} until Ctrl-C. Try:\n\nGOOD={good}\nOTHER={other}\n");
    println!("curl -i {url}/token-review");
    for (token, path) in [("OTHER", "token-review"), ("GOOD", "token-review"), ("GOOD", "jwks")] {
        println!("curl -i -H \"Authorization: Bearer ${token}\" {url}/{path}");
    }
    Ok(())
}
