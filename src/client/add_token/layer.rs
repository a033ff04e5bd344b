//! The layer.

use tower_layer::Layer;

use super::{
    origins::{InvalidOrigin, Origins},
    service::AddToken,
};
use crate::client::{TokenSource, source::SharedSource};

/// Wraps HTTP clients in [`AddToken`]; see [`client`](crate::client) for an example.
///
/// Works with any body and any client that is a `Service<http::Request<_>, Response =
/// http::Response<_>>` and `Clone`: hyper-util's, reqwest's through a small adapter, tonic's
/// channel (see `examples/`).
///
/// - The header is marked [sensitive](http::HeaderValue::is_sensitive). An `Authorization` header
///   that the request has already stays, and no token is asked for.
/// - Only requests to the given origins get the token; all others go out without one.
/// - A 401, or gRPC's `UNAUTHENTICATED`, makes the source [invalidate](TokenSource::invalidate)
///   that token, so that the next request gets another one. The request itself is not sent again:
///   only its sender knows whether that is safe.
/// - Without a token the request is not sent; the error can be downcast to
///   [`TokenError`](crate::client::TokenError).
///
/// Redirects: put whatever follows them *outside* of this layer (`tower_http::follow_redirect`),
/// where each hop is
/// checked again. A client that follows them by itself, *inside* of it, takes the
/// header along by its own rules; turn that off (`reqwest::redirect::Policy::none()`).
#[derive(Clone, Debug)]
pub struct AddTokenLayer {
    source: SharedSource,
    origins: Origins,
}

impl AddTokenLayer {
    /// Sends the tokens of `source` to `origins`, each a `https://host`, `https://host:port` or the
    /// same with `http`.
    ///
    /// Scheme, host and port must all be those of the request's URI, so a redirect to another host,
    /// to another port or from `https` to `http` gets no token. There are no wildcards. Plain
    /// `http` is for loopback and for meshes that encrypt below HTTP; elsewhere, anybody who
    /// sees the traffic can use the token until it expires. It must be written out for each
    /// origin, and is never implied.
    ///
    /// A request whose URI has no scheme and host gets no token, because its destination is
    /// unknown. (For tonic: build the client by its `with_origin`.)
    ///
    /// ```
    /// use tower_kube_auth::client::{AddTokenLayer, ProjectedToken};
    ///
    /// let token = ProjectedToken::new("/var/run/secrets/orders/token");
    /// let layer = AddTokenLayer::new(token, ["https://orders.shop.svc", "http://127.0.0.1:8080"])?;
    /// # Ok::<(), tower_kube_auth::client::InvalidOrigin>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidOrigin`] if there is none, or one is not an origin.
    pub fn new<I>(source: impl TokenSource, origins: I) -> Result<Self, InvalidOrigin>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        Ok(Self { source: SharedSource::new(source), origins: Origins::only(origins)? })
    }

    /// Sends the tokens of `source` with every request, to any origin and also over plain `http`.
    ///
    /// An attacker who can make this client call a URL, by a redirect or a link in data, gets the
    /// token and can use it until it expires. Only for a client whose URLs nobody else can
    /// influence.
    #[must_use]
    pub fn dangerous_any_origin(source: impl TokenSource) -> Self {
        Self { source: SharedSource::new(source), origins: Origins::Any }
    }
}

impl<S> Layer<S> for AddTokenLayer {
    type Service = AddToken<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AddToken::new(inner, self.source.clone(), self.origins.clone())
    }
}
