//! Lists from the environment, `ALLOWED_CALLERS` and `AUDIENCES`, with JSON error bodies.
//!
//! `cargo run --example allow_list` needs no cluster: an embedded one stands in for Kubernetes.

use std::{env, error::Error};

use axum::{
    Json, Router,
    body::{Body, to_bytes},
    http::{Request, Response},
    response::IntoResponse,
    routing::get,
};
use tower::ServiceExt;
use tower_kube_auth::{
    Authenticator, ServiceAccountIdentity, TokenReviewVerifier,
    authorizer::AllowList,
    server::{AuthorizeLayer, Rejection},
    testing::Cluster,
};

/// Keeps the status and the headers of `response`, such as the challenge of a 401.
fn json_body(response: Response<()>, rejection: &Rejection) -> Response<Body> {
    (response, Json(serde_json::json!({ "error": rejection.body_text() }))).into_response()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // A service should fail its start if one is missing; the example has defaults.
    let audiences = env::var("AUDIENCES").unwrap_or_else(|_| "orders, invoices".into());
    let allowed = env::var("ALLOWED_CALLERS").unwrap_or_else(|_| "shop/checkout, ops/*".into());
    let allowed: AllowList = allowed.parse()?;

    let cluster = Cluster::start().await?;
    let verifier = TokenReviewVerifier::new(cluster.kube_client()?);
    let builder = Authenticator::builder(verifier);
    let auth =
        audiences.split(',').fold(builder, |auth, name| auth.audience(name.trim())).build()?;
    let app = Router::new()
        .route("/", get(async |caller: ServiceAccountIdentity| format!("hello, {caller}")))
        // The layer that is added last is the outermost: authentication comes first.
        .layer(AuthorizeLayer::new(allowed).map_rejection_response(json_body))
        .layer(auth.layer().map_rejection_response(json_body));

    for (name, audience, expected) in
        [("checkout", "orders", 200), ("basket", "orders", 403), ("checkout", "payments", 401)]
    {
        cluster.create_service_account("shop", name);
        let token = cluster.token("shop", name).audience(audience).issue()?;
        let request = Request::get("/")
            .header("authorization", format!("Bearer {token}"))
            .body(Body::empty())?;
        let response = app.clone().oneshot(request).await?;
        let status = response.status();
        let body = to_bytes(response.into_body(), 1024).await?;
        println!("shop/{name}, token for {audience}: {status}\n   {}", str::from_utf8(&body)?);
        assert_eq!(status, expected);
    }
    Ok(())
}
