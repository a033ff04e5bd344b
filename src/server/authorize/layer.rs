//! The layer and its options.

use http::Response;
use tower_layer::Layer;

use super::{
    decisions::Decisions,
    service::{Authorize, Gate},
};
use crate::{
    authorizer::{Authorizer, DynAuthorizer},
    server::{DefaultRejectionResponse, Rejection, RejectionResponse},
};

/// Wraps services in [`Authorize`], which asks an [`Authorizer`] about every request. Goes behind
/// an [`AuthenticateLayer`](super::super::AuthenticateLayer), on a `Router`, as a `route_layer`, or
/// around any Tower service.
///
/// | caller | response | gRPC |
/// |---|---|---|
/// | allowed | the inner service's | |
/// | denied | 403 `insufficient_scope` ([RFC 6750 §3.1]) | 7 |
/// | without a decision | 503 and `Retry-After` | 14 |
/// | anonymous, behind an `optional()` layer | 401 and a challenge | 16 |
/// | none, because no authenticate layer is in front | 500, and a log line that says so | 13 |
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
/// use tower_kube_auth::{
///     Authenticator, TokenReviewVerifier, authorizer::AllowList, server::AuthorizeLayer,
///     testing::Cluster,
/// };
///
/// let cluster = Cluster::start().await?;
/// let auth = Authenticator::builder(TokenReviewVerifier::new(cluster.kube_client()?))
///     .audience("orders")
///     .build()?;
/// let app: Router = Router::new()
///     .route("/orders", get(async || "orders"))
///     .route_layer(AuthorizeLayer::new(AllowList::new(["shop/checkout", "ops/*"])?))
///     .layer(auth.layer());
///
/// for (name, status) in [("checkout", StatusCode::OK), ("basket", StatusCode::FORBIDDEN)] {
///     cluster.create_service_account("shop", name);
///     let token = cluster.token("shop", name).audience("orders").issue()?;
///     let bearer = format!("Bearer {token}");
///     let request = Request::get("/orders").header("authorization", bearer).body(Body::empty())?;
///     assert_eq!(app.clone().oneshot(request).await?.status(), status);
/// }
/// # Ok(()) }
/// ```
///
/// Works with the same bodies as the authenticate layer. The inner service must be `Clone`, for
/// requests that have to wait; a synchronous decision neither clones it nor allocates.
///
/// [RFC 6750 §3.1]: https://www.rfc-editor.org/rfc/rfc6750#section-3.1
#[derive(Clone, Debug)]
pub struct AuthorizeLayer<R = DefaultRejectionResponse> {
    gate: Gate<R>,
}

impl AuthorizeLayer {
    /// Returns the layer that asks `authorizer`.
    #[must_use]
    pub fn new(authorizer: impl Authorizer) -> Self {
        let gate = Gate {
            authorizer: DynAuthorizer::new(authorizer),
            rejection_response: DefaultRejectionResponse,
            no_grpc: false,
            decisions: Decisions::default(),
        };
        Self { gate }
    }
}

impl<R> AuthorizeLayer<R> {
    /// Denies nothing, for a rollout: a request that would be denied goes on. Off by default.
    ///
    /// **Everybody gets through**: callers that are denied, without a decision, or anonymous, and
    /// even requests that passed no authenticate layer. Each such request counts in
    /// [`let_through`](Self::let_through), and is logged with the caller, the path and the reason:
    /// at `warn` once in 10 s for each reason, otherwise at `debug`. Requests wait for their
    /// decision as ever.
    ///
    /// ```
    /// # fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use tower_kube_auth::{authorizer::AllowList, server::AuthorizeLayer};
    ///
    /// let layer = AuthorizeLayer::new(AllowList::new(["shop/checkout"])?).dangerous_report_only();
    /// assert_eq!(layer.let_through(), 0);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn dangerous_report_only(mut self) -> Self {
        self.gate.decisions.report_only = true;
        self
    }

    /// Returns how many requests this layer, its clones and its services let through that would
    /// have been rejected without [`dangerous_report_only`](Self::dangerous_report_only).
    #[must_use]
    pub fn let_through(&self) -> u64 {
        self.gate.decisions.let_through()
    }

    /// Sets whether gRPC requests get gRPC responses. On by default; see
    /// [`AuthenticateLayer::grpc`](super::super::AuthenticateLayer::grpc).
    #[must_use]
    pub fn grpc(mut self, enabled: bool) -> Self {
        self.gate.no_grpc = !enabled;
        self
    }

    /// Sets the hook that gives the response to a denied request its body. A closure for
    /// [`AuthenticateLayer::map_rejection_response`] fits here too.
    ///
    /// [`AuthenticateLayer::map_rejection_response`]: super::super::AuthenticateLayer::map_rejection_response
    #[must_use]
    pub fn map_rejection_response<F, ResBody>(self, rejection_response: F) -> AuthorizeLayer<F>
    where
        F: Fn(Response<()>, &Rejection) -> Response<ResBody> + Clone,
        F: RejectionResponse<ResBody>,
    {
        let Gate { authorizer, no_grpc, decisions, .. } = self.gate;
        AuthorizeLayer { gate: Gate { authorizer, rejection_response, no_grpc, decisions } }
    }
}

impl<S, R: Clone> Layer<S> for AuthorizeLayer<R> {
    type Service = Authorize<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        Authorize::new(inner, self.gate.clone())
    }
}
