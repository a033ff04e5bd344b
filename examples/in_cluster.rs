//! A service in a cluster: `examples/kubernetes/service.yaml` runs it, `caller.yaml` calls it.
//!
//! It takes its configuration from the environment: `AUDIENCE` (required), `LISTEN` (defaults to `127.0.0.1:8080`), and `VERIFY`,
//! `token-review` (the default) or `jwks`. The API server is found as every kube client finds it: by KUBECONFIG, or within a Pod.

use std::{env, error::Error};

use axum::{Json, Router, routing::get};
use tower_kube_auth::{Authenticator, JwksVerifier, ServiceAccountIdentity, TokenReviewVerifier};

/// Says who calls, in full: the identity serialises to JSON.
async fn whoami(caller: ServiceAccountIdentity) -> Json<ServiceAccountIdentity> {
    Json(caller)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let audience = env::var("AUDIENCE")
        .map_err(|_| "set AUDIENCE to the name that callers request their token for")?;
    let listen = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:8080".into());

    let client = kube::Client::try_default().await?;
    let builder = match env::var("VERIFY").as_deref() {
        Err(_) | Ok("token-review") => Authenticator::builder(TokenReviewVerifier::new(client)),
        Ok("jwks") => Authenticator::builder(JwksVerifier::in_cluster(client).build()?),
        Ok(other) => {
            return Err(format!("VERIFY is {other:?}; it must be token-review or jwks").into());
        }
    };
    let auth = builder.audience(audience).build()?;

    // Probes come from the kubelet, which has no token: their route is outside of the layer.
    let app = Router::new()
        .route("/", get(whoami))
        .layer(auth.layer())
        .route("/healthz", get(async || "ok"));
    let listener = tokio::net::TcpListener::bind(&listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).with_graceful_shutdown(shutdown()).await?;
    Ok(())
}

/// SIGTERM is how the kubelet ends a container; Ctrl-C how a developer does.
async fn shutdown() {
    use tokio::signal::{ctrl_c, unix};
    let Ok(mut terminate) = unix::signal(unix::SignalKind::terminate()) else { return };
    tokio::select! {
        _ = ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
