//! Authenticates and authorizes for a service in any language behind nginx: answers the subrequest
//! of nginx's `auth_request`, with the configuration beside it, `auth_request.nginx.conf`.
//!
//! 200 with the caller in `X-Auth-User` and `X-Auth-Uid`, 401 or 403. The ClusterRoles decide, by
//! `nonResourceURLs`, about the path and the method that nginx names in `X-Original-URI` and
//! `X-Original-Method`. `AUDIENCE` and `LISTEN` are as in `in_cluster.rs`.

use std::{env, error::Error};

use axum::{Router, http::HeaderMap, routing::any};
use tower_kube_auth::{
    ApiServer, Authenticator, ServiceAccountIdentity, TokenReviewVerifier,
    authorizer::{NonResourceAttributes, SubjectAccessReviewAuthorizer},
    server::AuthorizeLayer,
};

/// Returns the route of the subrequest.
pub fn app(api: impl Into<ApiServer>, audience: &str) -> Result<Router, Box<dyn Error>> {
    let api = api.into();
    let auth = Authenticator::builder(TokenReviewVerifier::new(api.clone())).audience(audience);
    let authorizer = SubjectAccessReviewAuthorizer::builder(api)
        .attributes_fn(|_, head| original_request(head.headers()).map(Into::into))
        .build()?;
    Ok(Router::new()
        .route("/auth", any(allowed))
        // nginx reads the HTTP status, and sends the client's `Content-Type`, gRPC's too.
        .layer(AuthorizeLayer::new(authorizer).grpc(false))
        .layer(auth.build()?.layer().grpc(false)))
}

async fn allowed(caller: ServiceAccountIdentity) -> [(&'static str, String); 2] {
    [("x-auth-user", caller.username().into()), ("x-auth-uid", caller.uid().into())]
}

/// Returns what the client asked nginx for; `None`, a denial, unless the path has one meaning only:
/// the service behind nginx may resolve escapes, dots and empty segments.
fn original_request(headers: &HeaderMap) -> Option<NonResourceAttributes> {
    let header = |name| headers.get(name)?.to_str().ok();
    let path = header("x-original-uri")?.split(['?', '#']).next()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
    let is_plain = path.starts_with('/') && path.bytes().all(plain);
    if !is_plain || path.contains("//") || path.split('/').any(|part| part == "." || part == "..") {
        return None;
    }
    Some(NonResourceAttributes::new(header("x-original-method")?.to_ascii_lowercase(), path))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let audience = env::var("AUDIENCE").map_err(|_| "set AUDIENCE to the callers' audience")?;
    let listen = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:8081".into());
    let listener = tokio::net::TcpListener::bind(&listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app(ApiServer::try_default().await?, &audience)?).await?;
    Ok(())
}
