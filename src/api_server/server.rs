//! The public handle of an API server.

use std::{error::Error, fmt, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use tower_service::Service;

use super::transport::{ResponseFuture, ServiceTransport, Transport};

/// An API server, and the HTTP client that reaches it with this service's own credential.
///
/// All calls of this crate to Kubernetes go through an `ApiServer`: those of
/// [`TokenReviewVerifier`](crate::TokenReviewVerifier),
/// `JwksVerifier::in_cluster` and [`TokenRequestSource`](crate::client::TokenRequestSource). Clones
/// share the client.
///
/// | constructor | HTTP client | needs |
/// |---|---|---|
/// | `try_default` | by kubeconfig, or by the mounted ServiceAccount within a Pod | feature `kube` |
/// | `From<kube::Client>` | a client of the version of kube that this crate re-exports | feature `kube` |
/// | `from_parts` | URL, CA file and token file | feature `kube` |
/// | [`from_service`](Self::from_service) | any Tower service, of another major of kube for instance | |
///
/// # Files
///
/// In a Pod and with `from_parts`, kube reads the token again every minute, and the CA when a
/// connection is made and the last reading is a minute ago. So rotated ones take effect without a
/// restart. The certificates in a kubeconfig are read once.
///
/// # Retries
///
/// Retries are this crate's alone. A call makes up to five attempts with growing, jittered pauses:
/// after 429, 5xx, a broken connection, an attempt without an answer, and any answer with a
/// `Retry-After`, which is obeyed up to 5 s and reported at once beyond that. An attempt may take
/// three tenths of the call's time limit, and at least 3 s.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_kube_auth::{ApiServer, JwksVerifier, TokenReviewVerifier, testing::Cluster};
///
/// let cluster = Cluster::start().await?;
/// let api = ApiServer::from(cluster.kube_client()?); // in a service: ApiServer::try_default().await?
/// let review = TokenReviewVerifier::new(api.clone());
/// let offline = JwksVerifier::in_cluster(api).build()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ApiServer(Arc<dyn Transport>);

impl ApiServer {
    /// Sends all calls through `service`, which is cloned for each call.
    ///
    /// A request has a path but no host (`/apis/authentication.k8s.io/v1/tokenreviews`): the
    /// service adds the server's address and this service's own credential, as every client of
    /// kube does. The body of a response is read up to 1 MiB, except that of a watch, which has to
    /// arrive as it is sent.
    ///
    /// A client of any major of kube fits in three lines, because the body of each implements
    /// `From<Bytes>`:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tower::service_fn;
    /// use tower_kube_auth::{ApiServer, TokenReviewVerifier, testing::Cluster};
    ///
    /// # let cluster = Cluster::start().await?;
    /// # let mut config = cluster.kube_config()?; // let mut config = kube::Config::infer().await?;
    /// config.default_retry = false; // kube 4 and newer
    /// let client = kube::Client::try_from(config)?;
    /// let api = ApiServer::from_service(service_fn(move |request: http::Request<bytes::Bytes>| {
    ///     let client = client.clone();
    ///     async move { client.send(request.map(Into::into)).await }
    /// }));
    /// let verifier = TokenReviewVerifier::new(api);
    /// # Ok(()) }
    /// ```
    ///
    /// # Retries of the service
    ///
    /// The service must not retry on its own: that multiplies the calls, and the statuses and
    /// `Retry-After` that it retries are lost. kube 4 and newer retry 429, 503 and 504 up to 15
    /// times unless `Config::default_retry` is false; kube 3 and older do not retry. (`ApiServer`
    /// keeps clients of its own version of kube from retrying, whatever their configuration.)
    pub fn from_service<S, B>(service: S) -> Self
    where
        S: Service<Request<Bytes>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<Box<dyn Error + Send + Sync>>,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        Self::from_transport(ServiceTransport::new(service))
    }

    pub(super) fn from_transport(transport: impl Transport + 'static) -> Self {
        Self(Arc::new(transport))
    }

    pub(super) fn send(&self, request: Request<Bytes>) -> ResponseFuture {
        self.0.send(request)
    }
}

impl fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiServer").finish_non_exhaustive()
    }
}
