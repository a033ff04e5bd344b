//! The service that adds tokens.

use std::{
    mem,
    task::{Context, Poll},
};

use http::{Request, Response, header};
use tower_service::Service;

use super::{
    future::{BoxError, ResponseFuture},
    origins::Origins,
};
use crate::client::source::SharedSource;

/// Adds a token to requests; see [`AddTokenLayer`](super::AddTokenLayer).
///
/// Its error is the inner service's, boxed, or a [`TokenError`](crate::client::TokenError):
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use http::{Request, Response};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_kube_auth::client::{AddTokenLayer, ProjectedToken, TokenError, TokenErrorKind};
///
/// let client = service_fn(async |_: Request<()>| Ok::<_, std::io::Error>(Response::new(())));
/// let layer = AddTokenLayer::new(ProjectedToken::new("/no/such/file"), ["https://orders"])?;
/// let error = layer.layer(client).oneshot(Request::get("https://orders/").body(())?).await.unwrap_err();
/// let error = error.downcast_ref::<TokenError>().unwrap();
/// assert_eq!(error.kind(), TokenErrorKind::Unreadable);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct AddToken<S> {
    inner: S,
    source: SharedSource,
    origins: Origins,
}

impl<S> AddToken<S> {
    pub(super) fn new(inner: S, source: SharedSource, origins: Origins) -> Self {
        Self { inner, source, origins }
    }

    fn wants_token<B>(&self, request: &Request<B>) -> bool {
        if request.headers().contains_key(header::AUTHORIZATION) {
            return false;
        }
        let allowed = self.origins.allow(request.uri());
        if !allowed {
            // Path and query may be confidential.
            let (scheme, authority) =
                (request.uri().scheme_str(), request.uri().authority().map(|host| host.host()));
            tracing::debug!(scheme, host = authority, "no token for this origin");
        }
        allowed
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for AddToken<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ResponseFuture<S, ReqBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        if !self.wants_token(&request) {
            return ResponseFuture::untouched(self.inner.call(request));
        }
        // The service that was polled ready must be called; its clone takes its place.
        let clone = self.inner.clone();
        let ready = mem::replace(&mut self.inner, clone);
        ResponseFuture::getting(self.source.clone(), ready, request)
    }
}
