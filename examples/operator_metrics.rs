//! An operator's `/metrics`, protected by the cluster's RBAC, as controller-runtime does it in Go:
//! `examples/kubernetes/metrics.yaml` grants a scraper the access.
//!
//! `LISTEN` is the address to listen on, `127.0.0.1:8080` by default. The API server is found as
//! every kube client finds it: by `KUBECONFIG`, or by what is mounted into the Pod.

use std::{env, error::Error};

use axum::{Router, http::header::CONTENT_TYPE, response::IntoResponse, routing::get};
use tower_kube_auth::{ApiServer, metrics_auth};

/// Returns the routes. The kubelet probes without a token, so `/healthz` is outside of the layer.
pub fn app(api: impl Into<ApiServer>) -> Result<Router, Box<dyn Error>> {
    Ok(Router::new()
        .route("/metrics", get(metrics))
        .layer(metrics_auth(api)?)
        .route("/healthz", get(async || "ok")))
}

/// Returns what the operator measures, in Prometheus' text format.
pub async fn metrics() -> impl IntoResponse {
    let text = "# TYPE operator_reconciliations_total counter\noperator_reconciliations_total 42\n";
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let listen = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:8080".into());
    let listener = tokio::net::TcpListener::bind(&listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app(ApiServer::try_default().await?)?).await?;
    Ok(())
}
