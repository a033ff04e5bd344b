//! The layer and its options.

use tower_layer::Layer;

use super::{
    rejection::Rejection,
    response::{DefaultRejectionResponse, RejectionResponse},
    service::{Authenticate, Options},
};
use crate::authenticator::Authenticator;

impl Authenticator {
    /// Returns the Tower layer that lets only authenticated requests through.
    ///
    /// Layers of one `Authenticator` share its cache. See [`server`](crate::server) for an example
    /// and for the responses.
    #[must_use]
    pub fn layer(&self) -> AuthenticateLayer {
        AuthenticateLayer::new(self.clone())
    }
}

/// Wraps services in [`Authenticate`]; made by [`Authenticator::layer`] or [`new`](Self::new).
///
/// Works with any request body, and with any response body that implements [`Default`], or with any
/// at all by [`map_rejection_response`](Self::map_rejection_response). The inner service must be
/// `Clone`, for requests that have to wait; a cache hit does not clone it. A request that waits
/// holds no readiness of the inner service, so load shedding belongs inside of this layer.
#[derive(Clone, Debug)]
pub struct AuthenticateLayer<R = DefaultRejectionResponse> {
    authenticator: Authenticator,
    options: Options,
    rejection_response: R,
}

impl AuthenticateLayer {
    /// Returns the layer, with default options.
    #[must_use]
    pub fn new(authenticator: Authenticator) -> Self {
        Self {
            authenticator,
            options: Options::default(),
            rejection_response: DefaultRejectionResponse,
        }
    }
}

impl<R> AuthenticateLayer<R> {
    /// Lets requests without a bearer token through, without an identity. Off by default.
    ///
    /// An invalid token is still rejected. Handlers take `Option<ServiceAccountIdentity>`.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.options.optional = true;
        self
    }

    /// Leaves the `Authorization` header in the request. Off by default: a handler that logs or
    /// forwards its request would disclose the caller's token.
    #[must_use]
    pub fn keep_authorization(mut self) -> Self {
        self.options.keep_authorization = true;
        self
    }

    /// Rejects nothing, for the rollout to a service whose callers send no token yet: a request
    /// that would be rejected goes on without an identity. Off by default.
    ///
    /// **Everybody gets through**, with an invalid token, without one, and during a failure of the
    /// verifier. Each such request counts in [`let_through`], and is logged with the reason: at
    /// `warn` once in 10 s for each reason, otherwise at `debug`. Turn it off when no caller is
    /// left in the log.
    ///
    /// - Handlers take `Option<ServiceAccountIdentity>`. One that takes the identity itself still
    ///   answers 401, and so does an [`AuthorizeLayer`] behind this layer, unless it is
    ///   [report-only](super::AuthorizeLayer::dangerous_report_only) too.
    /// - An identity is always a verified one. `Authorization` and `X-Remote-*` are removed as
    ///   ever.
    /// - Requests wait for their verification as ever.
    ///
    /// ```
    /// # fn example(auth: tower_kube_auth::Authenticator) -> axum::Router {
    /// use axum::{Router, routing::get};
    /// use tower_kube_auth::ServiceAccountIdentity;
    ///
    /// async fn orders(caller: Option<ServiceAccountIdentity>) -> String {
    ///     format!("hello, {}", caller.as_ref().map_or("nobody", |caller| caller.username()))
    /// }
    ///
    /// let layer = auth.layer().dangerous_report_only();
    /// Router::new().route("/orders", get(orders)).layer(layer)
    /// # }
    /// ```
    ///
    /// [`let_through`]: crate::authenticator::AuthenticatorMetrics::let_through
    /// [`AuthorizeLayer`]: super::AuthorizeLayer
    #[must_use]
    pub fn dangerous_report_only(mut self) -> Self {
        self.options.report_only = true;
        self
    }

    /// Sets whether gRPC requests get gRPC responses: HTTP status 200 and a `grpc-status`. On by
    /// default.
    ///
    /// Every POST with the `content-type` `application/grpc` counts as gRPC, so anybody can get a
    /// rejection with the status 200. Turn it off in a service without gRPC, so that alerts on the
    /// rate of 401 and access logs see every rejection.
    #[must_use]
    pub fn grpc(mut self, enabled: bool) -> Self {
        self.options.no_grpc = !enabled;
        self
    }

    /// Sets the hook that gives the response to a rejected request its body. The hook gets a
    /// response with the status and the headers of the protocol; it may change these too.
    ///
    /// ```
    /// # fn example(auth: tower_kube_auth::Authenticator) -> axum::Router {
    /// use axum::{Json, Router, response::IntoResponse, routing::get};
    ///
    /// let layer = auth.layer().map_rejection_response(|response, rejection| {
    ///     (response, Json(serde_json::json!({ "error": rejection.body_text() }))).into_response()
    /// });
    /// Router::new().route("/", get(async || "hello")).layer(layer)
    /// # }
    /// ```
    #[must_use]
    pub fn map_rejection_response<F, ResBody>(self, rejection_response: F) -> AuthenticateLayer<F>
    where
        F: Fn(http::Response<()>, &Rejection) -> http::Response<ResBody> + Clone,
        F: RejectionResponse<ResBody>,
    {
        AuthenticateLayer {
            authenticator: self.authenticator,
            options: self.options,
            rejection_response,
        }
    }
}

impl<S, R: Clone> Layer<S> for AuthenticateLayer<R> {
    type Service = Authenticate<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        Authenticate::new(
            inner,
            self.authenticator.clone(),
            self.options,
            self.rejection_response.clone(),
        )
    }
}
