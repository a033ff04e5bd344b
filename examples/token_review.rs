//! Verification by TokenReview: the API server decides about each new token.
//!
//! `cargo run --example token_review` runs on the embedded cluster. In a real one, pass
//! `ApiServer::try_default()`; the service's own ServiceAccount needs the ClusterRole
//! `system:auth-delegator`.

use std::error::Error;

use axum::{Router, body::Body, http::Request, routing::get};
use tower::ServiceExt;
use tower_kube_auth::{
    Authenticator, ServiceAccountIdentity, TokenReviewVerifier,
    testing::{Cluster, Endpoint},
};

async fn whoami(caller: ServiceAccountIdentity) -> String {
    let pod = caller.pod().map_or("no Pod", |pod| pod.name);
    format!("hello, {} from {pod}", caller.username())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let cluster = Cluster::start().await?;
    cluster.create_service_account("shop", "checkout");
    cluster.create_pod("shop", "checkout-7d9f", "checkout");
    let token = cluster
        .token("shop", "checkout")
        .audience("orders")
        .bound_to_pod("checkout-7d9f")
        .issue()?;

    let verifier = TokenReviewVerifier::new(cluster.kube_client()?);
    let auth = Authenticator::builder(verifier).audience("orders").build()?;
    let app = Router::new().route("/", get(whoami)).layer(auth.layer());

    for _ in 0..3 {
        let request = Request::get("/")
            .header("authorization", format!("Bearer {token}"))
            .body(Body::empty())?;
        let response = app.clone().oneshot(request).await?;
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1024).await?;
        println!("{status}: {}", String::from_utf8_lossy(&body));
        assert!(status.is_success());
    }
    println!("TokenReviews for three requests: {}", cluster.calls(Endpoint::TokenReview));
    assert_eq!(cluster.calls(Endpoint::TokenReview), 1);
    Ok(())
}
