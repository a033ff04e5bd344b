//! The layer, and what can be tuned on it.

use tower_layer::Layer;

use super::{
    response::{DefaultRejectionResponse, RejectionResponse},
    service::Authenticate,
};
use crate::authenticator::Authenticator;

impl Authenticator {
    /// The Tower layer that lets only authenticated requests through.
    ///
    /// Layers of one `Authenticator` share its cache. See [`server`](crate::server) for an example and for the answers.
    #[must_use]
    pub fn layer(&self) -> AuthenticateLayer {
        let options = Options { optional: false, keep_authorization: false };
        AuthenticateLayer {
            authenticator: self.clone(),
            options,
            rejection_response: DefaultRejectionResponse,
        }
    }
}

/// Puts [`Authenticate`] in front of a service; made by [`Authenticator::layer`].
///
/// Works with any request body, and with any response body that has a [`Default`] (or with a
/// [`map_rejection_response`](Self::map_rejection_response) hook, with any at all). The inner service must be `Clone`, for the requests that have to
/// wait; on a cache hit it is not cloned.
#[derive(Clone, Debug)]
pub struct AuthenticateLayer<R = DefaultRejectionResponse> {
    authenticator: Authenticator,
    options: Options,
    rejection_response: R,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) optional: bool,
    pub(super) keep_authorization: bool,
}

impl<R> AuthenticateLayer<R> {
    /// Lets requests without a bearer token through, without an identity. Off by default.
    ///
    /// A token that is sent must still be good: a bad one is refused. Handlers take `Option<ServiceAccountIdentity>`.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.options.optional = true;
        self
    }

    /// Leaves the `Authorization` header in the request. Off by default: a handler that logs or forwards its request would
    /// pass on a token that is not its own.
    #[must_use]
    pub fn keep_authorization(mut self) -> Self {
        self.options.keep_authorization = true;
        self
    }

    /// Sets what makes the response to a refused request. The closure gets a response that has the right status and headers,
    /// and gives it a body; it may change everything, so it is on its own if it changes those.
    ///
    /// ```
    /// # fn example(auth: tower_kube_auth::Authenticator) {
    /// use axum::{Router, body::Body, http::Response, routing::get};
    /// use tower_kube_auth::server::Rejection;
    ///
    /// let layer = auth.layer().map_rejection_response(|response: Response<()>, rejection: &Rejection| {
    ///     response.map(|()| Body::from(format!("{{\"error\":\"{}\"}}", rejection.body_text())))
    /// });
    /// let app: Router = Router::new().route("/", get(async || "hello")).layer(layer);
    /// # }
    /// ```
    #[must_use]
    pub fn map_rejection_response<F, ResBody>(self, rejection_response: F) -> AuthenticateLayer<F>
    where
        F: Fn(http::Response<()>, &super::Rejection) -> http::Response<ResBody> + Clone,
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
