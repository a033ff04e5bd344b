//! Configurations from a file: what is read, what is an error, and what they build.

mod errors;
mod formats;
mod layers;

use http::Response;
use http_body_util::Full;
use serde_json::Value;
use tower::service_fn;
use tower_kube_auth::{
    ApiServer,
    config::{AuthConfig, AuthConfigError, ConfiguredAuth},
};

/// Answers 404 to everything, at once.
fn api_server() -> ApiServer {
    ApiServer::from_service(service_fn(async |_: http::Request<bytes::Bytes>| {
        let mut response = Response::new(Full::<bytes::Bytes>::default());
        *response.status_mut() = http::StatusCode::NOT_FOUND;
        Ok::<_, std::convert::Infallible>(response)
    }))
}

fn read(config: Value) -> Result<AuthConfig, serde_json::Error> {
    serde_json::from_value(config)
}

async fn build(config: Value) -> Result<ConfiguredAuth, AuthConfigError> {
    read(config).unwrap().build(api_server()).await
}
