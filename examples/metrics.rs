//! A service with metrics for Prometheus:
//!
//! ```console
//! $ cargo run --example metrics
//! ```
//!
//! It sends itself a few requests, prints what Prometheus would read, and ends. See
//! docs/metrics.md for what each metric tells, and the example `operator_metrics` for how only
//! Prometheus may read it.

use axum::{Router, body::Body, http::Request, routing::get};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tower::ServiceExt;
use tower_kube_auth::{
    Authenticator, ServiceAccountIdentity, TokenReviewVerifier, testing::Cluster,
};

/// Installs the recorder. The buckets are those of the alerts and the dashboard in
/// examples/observability: 1 ms, doubled up to 16 s.
fn install_recorder() -> Result<PrometheusHandle, Box<dyn std::error::Error>> {
    let buckets: Vec<f64> = (0..15).map(|power| 0.001 * f64::from(1 << power)).collect();
    let durations = Matcher::Suffix("_duration_seconds".to_owned());
    let builder = PrometheusBuilder::new().set_buckets_for_metric(durations, &buckets)?;
    Ok(builder.install_recorder()?)
}

async fn hello(caller: ServiceAccountIdentity) -> String {
    format!("hello, {caller}")
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let metrics = install_recorder()?;

    // In a service: ApiServer::try_default().await?
    let cluster = Cluster::start().await?;
    let verifier = TokenReviewVerifier::new(cluster.kube_client()?);
    let auth = Authenticator::builder(verifier).audience("orders").build()?;
    let app = Router::new()
        .route("/", get(hello))
        .layer(auth.layer())
        .route("/metrics", get(async move || metrics.render()));

    cluster.create_service_account("shop", "checkout");
    let issue = |audience| cluster.token("shop", "checkout").audience(audience).issue();
    for token in [issue("orders")?, issue("payments")?] {
        let request = Request::get("/").header("authorization", format!("Bearer {token}"));
        let response = app.clone().oneshot(request.body(Body::empty())?).await?;
        println!("{}", response.status());
    }
    let response = app.oneshot(Request::get("/metrics").body(Body::empty())?).await?;
    let text = axum::body::to_bytes(response.into_body(), usize::MAX).await?;
    println!("{}", String::from_utf8_lossy(&text));
    Ok(())
}
