//! A rule for each audience, from a service's own configuration in YAML.
//!
//! `cargo run --example per_audience_config` needs no cluster: an embedded one stands in for
//! Kubernetes.

use std::error::Error;

use axum::{Router, body::Body, http::Request, routing::get};
use serde::Deserialize;
use tower::ServiceExt;
use tower_kube_auth::{ServiceAccountIdentity, config::AuthConfig, testing::Cluster};

const CONFIG: &str = "
listen: 0.0.0.0:8080
auth:
  audiences:
    - name: telemetry
      rule: { any_authenticated: true }
    - name: telemetry-admin
      rule: { allow_list: [ops/console, monitoring/*] }
  verifier:
    screened_by: jwks
  cache_ttl: 5m
";

#[derive(Deserialize)]
struct Config {
    listen: String,
    auth: AuthConfig,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let config: Config = serde_saphyr::from_str(CONFIG)?;
    let cluster = Cluster::start().await?;
    // In a service: config.auth.build(ApiServer::try_default().await?).await?
    let auth = config.auth.build(cluster.kube_client()?).await?;
    let app = Router::new()
        .route("/", get(async |caller: ServiceAccountIdentity| format!("hello, {caller}")))
        .layer(auth.layers());
    println!("a service would listen on {}", config.listen);

    for (namespace, name, audiences, expected) in [
        ("shop", "checkout", &["telemetry"][..], 200),
        ("shop", "checkout", &["telemetry", "telemetry-admin"], 403),
        ("ops", "console", &["telemetry", "telemetry-admin"], 200),
        ("ops", "console", &["payments"], 401),
    ] {
        cluster.create_service_account(namespace, name);
        let token = cluster.token(namespace, name);
        let token = audiences.iter().fold(token, |token, name| token.audience(*name)).issue()?;
        let request = Request::get("/")
            .header("authorization", format!("Bearer {token}"))
            .body(Body::empty())?;
        let status = app.clone().oneshot(request).await?.status();
        println!("{namespace}/{name}, token for {}: {status}", audiences.join(" and "));
        assert_eq!(status, expected);
    }
    Ok(())
}
