//! A service in a cluster: `examples/kubernetes/service.yaml` runs it, `caller.yaml` calls it.
//!
//! | variable | meaning |
//! |---|---|
//! | `AUDIENCE` | the audience that callers request their token for; required |
//! | `LISTEN` | the address to listen on; `127.0.0.1:8080` by default |
//! | `VERIFY` | `token-review` (the default) or `jwks` |
//!
//! `ApiServer::try_default` finds the API server as every kube client does: by `KUBECONFIG`, or by
//! what is mounted into the Pod.

use std::{env, error::Error, time::Duration};

use axum::{Json, Router, routing::get};
use tower_kube_auth::{
    ApiServer, Authenticator, JwksVerifier, ServiceAccountIdentity, TokenReviewVerifier,
};

/// Returns the whole identity as JSON.
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

    let api = ApiServer::try_default().await?;
    let builder = match env::var("VERIFY").as_deref() {
        Err(_) | Ok("token-review") => Authenticator::builder(TokenReviewVerifier::new(api)),
        Ok("jwks") => Authenticator::builder(JwksVerifier::in_cluster(api).build()?),
        Ok(other) => {
            return Err(format!("VERIFY is {other:?}; it must be token-review or jwks").into());
        }
    };
    let auth = builder.audience(audience).build()?;

    // The kubelet probes without a token, so this route is outside of the layer.
    let app = Router::new()
        .route("/", get(whoami))
        .layer(auth.layer())
        .route("/healthz", get(async || "ok"));
    let listener = tokio::net::TcpListener::bind(&listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).with_graceful_shutdown(shutdown()).await?;
    auth.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

/// Waits for SIGTERM, by which the kubelet ends a container, or for Ctrl-C.
async fn shutdown() {
    use tokio::signal::{ctrl_c, unix};
    let Ok(mut terminate) = unix::signal(unix::SignalKind::terminate()) else { return };
    tokio::select! {
        _ = ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
