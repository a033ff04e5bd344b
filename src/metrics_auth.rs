//! Both layers for an operator's `/metrics`, in one line.

use tower_layer::Stack;

use crate::{
    api_server::ApiServer,
    authenticator::{Authenticator, AuthenticatorBuildError},
    authorizer::SubjectAccessReviewAuthorizer,
    server::{AuthenticateLayer, AuthorizeLayer},
    verifier::token_review::TokenReviewVerifier,
};

/// An authorize layer within an authenticate layer; made by [`metrics_auth`].
pub type MetricsAuthLayer = Stack<AuthorizeLayer, AuthenticateLayer>;

/// Returns the layer that protects `/metrics` by the cluster's RBAC, as controller-runtime's filter
/// `WithAuthenticationAndAuthorization` does in Go.
///
/// A scraper sends its token for the API server, as Prometheus does by default. TokenReview
/// authenticates it, and a non-resource SubjectAccessReview, of the path as requested and the
/// method in lower case, decides. So the scraper needs a ClusterRole with
///
/// ```yaml
/// rules:
/// - nonResourceURLs: ["/metrics"]
///   verbs: ["get"]
/// ```
///
/// and this service's own ServiceAccount the ClusterRole `system:auth-delegator`;
/// `examples/kubernetes/metrics.yaml` has both. Decisions are cached for a minute, and a failure of
/// the API server is a 503.
///
/// **Nested routers.** The path that is reviewed is the one that the layer sees, and axum's `nest`
/// removes its prefix first: with the layer within `nest("/internal", …)`, `/internal/metrics` is
/// reviewed as `/metrics`, and the ClusterRole for `/metrics` allows it. Put the layer around the
/// outer router's route to have the whole path reviewed. A path with `.`, `..` or empty segments,
/// `%2e`, `%2f`, `%5c` or a backslash is denied.
///
/// The risk is that of
/// [`api_server_audience`](crate::authenticator::AuthenticatorBuilder::api_server_audience): put
/// this layer on operational routes only.
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use axum::{
///     Router,
///     body::Body,
///     http::{Request, StatusCode},
///     routing::get,
/// };
/// use tower::ServiceExt;
/// use tower_kube_auth::{metrics_auth, testing::Cluster};
///
/// let cluster = Cluster::start().await?;
/// let api = cluster.kube_client()?; // in a cluster: ApiServer::try_default().await?
/// let app: Router =
///     Router::new().route("/metrics", get(async || "up 1")).layer(metrics_auth(api)?);
///
/// let rule = serde_json::json!({ "nonResourceURLs": ["/metrics"], "verbs": ["get"] });
/// cluster.grant("system:serviceaccount:monitoring:prometheus", &rule);
/// for (name, status) in [("prometheus", StatusCode::OK), ("other", StatusCode::FORBIDDEN)] {
///     cluster.create_service_account("monitoring", name);
///     let bearer = format!("Bearer {}", cluster.token("monitoring", name).issue()?);
///     let request = Request::get("/metrics").header("authorization", bearer).body(Body::empty())?;
///     assert_eq!(app.clone().oneshot(request).await?.status(), status);
/// }
/// # Ok(()) }
/// ```
///
/// For other options, build the two layers: this is
/// `Authenticator::builder(TokenReviewVerifier::new(api)).api_server_audience()` with
/// [`AuthorizeLayer::new`] of a `SubjectAccessReviewAuthorizer::new(api)` behind it.
///
/// # Errors
///
/// [`AuthenticatorBuildError::NoRandomness`].
pub fn metrics_auth(
    api_server: impl Into<ApiServer>,
) -> Result<MetricsAuthLayer, AuthenticatorBuildError> {
    let api_server = api_server.into();
    let verifier = TokenReviewVerifier::new(api_server.clone());
    let authenticator = Authenticator::builder(verifier).api_server_audience().build()?;
    let authorize = AuthorizeLayer::new(SubjectAccessReviewAuthorizer::new(api_server));
    Ok(Stack::new(authorize, authenticator.layer()))
}
