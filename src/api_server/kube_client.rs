//! API servers that are reached by a client of kube, whose own retries never run.

use std::{
    convert::Infallible,
    error::Error,
    fmt,
    future::{Ready, ready},
    path::PathBuf,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, Uri, uri::Scheme};
use kube::{Client, Config, client::Body, config::AuthInfo};
use tower_service::Service;

use super::{
    response_body::{BoxError, ResponseBody},
    server::ApiServer,
    transport::{ResponseFuture, Transport},
};

/// Keeps kube from retrying, whatever the client's `default_retry` says.
impl From<Client> for ApiServer {
    fn from(client: Client) -> Self {
        Self::from_transport(KubeTransport(client))
    }
}

impl ApiServer {
    /// Finds the API server as every client of kube does: by kubeconfig, or by the mounted
    /// ServiceAccount within a Pod. Must be called within a Tokio runtime.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use tower_kube_auth::{ApiServer, Authenticator, TokenReviewVerifier};
    ///
    /// let api = ApiServer::try_default().await?;
    /// let auth = Authenticator::builder(TokenReviewVerifier::new(api)).audience("orders").build()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// If neither configuration is there, or one of them is invalid.
    pub async fn try_default() -> Result<Self, ApiServerBuildError> {
        let client = Client::try_default().await;
        client.map(Self::from).map_err(|error| {
            ApiServerBuildError::new("there is no usable configuration of an API server", error)
        })
    }

    /// Uses the API server at `url`, verified by the certificates in `ca_file`, with the token in
    /// `token_file`. kube reads the token again every minute, and the CA when a connection is made
    /// and the last reading is a minute ago. Must be called within a Tokio runtime.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tower_kube_auth::{ApiServer, TokenReviewVerifier, testing::Cluster};
    ///
    /// let cluster = Cluster::start().await?;
    /// # let folder = std::env::temp_dir().join(format!("from-parts-{}", std::process::id()));
    /// # cluster.create_service_account("shop", "checkout");
    /// # cluster.write_projected_volume(&folder, &cluster.token("shop", "checkout").issue()?)?;
    /// let url = format!("https://{}", cluster.address());
    /// let api = ApiServer::from_parts(&url, folder.join("ca.crt"), folder.join("token"))?;
    /// let verifier = TokenReviewVerifier::new(api);
    /// assert!(ApiServer::from_parts("http://10.0.0.1", "ca.crt", "token").is_err());
    /// # std::fs::remove_dir_all(folder)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// If `url` is not an https URL, or one of the files cannot be read.
    pub fn from_parts(
        url: &str,
        ca_file: impl Into<PathBuf>,
        token_file: impl Into<PathBuf>,
    ) -> Result<Self, ApiServerBuildError> {
        let uri: Uri = url.parse().map_err(|error| {
            ApiServerBuildError::new(format!("{url:?} is not the URL of an API server"), error)
        })?;
        // Over plain http, whoever answers would decide about tokens.
        if uri.scheme() != Some(&Scheme::HTTPS) {
            let message = format!("{url:?} is not the URL of an API server");
            return Err(ApiServerBuildError::new(message, "it does not begin with https://"));
        }
        let mut config = Config::new(uri);
        config.root_cert_file = Some(ca_file.into());
        let token_file = token_file.into().to_string_lossy().into_owned();
        config.auth_info = AuthInfo { token_file: Some(token_file), ..AuthInfo::default() };
        Client::try_from(config)
            .map(Self::from)
            .map_err(|error| ApiServerBuildError::new("the client cannot be built", error))
    }
}

/// Why there is no client for an API server: its configuration is missing or invalid.
///
/// ```
/// use tower_kube_auth::ApiServer;
///
/// let error = ApiServer::from_parts("http://10.0.0.1", "ca.crt", "token").unwrap_err();
/// assert!(error.to_string().contains("https"));
/// ```
#[derive(Debug)]
pub struct ApiServerBuildError {
    message: String,
    source: BoxError,
}

impl ApiServerBuildError {
    fn new(message: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self { message: message.into(), source: source.into() }
    }
}

impl fmt::Display for ApiServerBuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.message, self.source)
    }
}

impl Error for ApiServerBuildError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}

struct KubeTransport(Client);

impl Transport for KubeTransport {
    fn send(&self, request: Request<Bytes>) -> ResponseFuture {
        let client = self.0.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = without_retries(body).await?;
            // `send` and not `request`: the latter logs the body of a response that it cannot read.
            let response = client.send(Request::from_parts(head, body)).await?;
            Ok(response.map(ResponseBody::new))
        })
    }
}

/// Makes a body that kube sends once.
///
/// With `Config::default_retry`, which is on by default, kube retries 429, 503 and 504 up to 15
/// times with pauses of its own, within what looks like one attempt from here. It retries only
/// requests whose body it can clone (`RetryPolicy::clone_request`), which are those with a body in
/// memory and not those with a stream. The only public way to a body that is a stream is a response
/// of a client, so the body passes through a client that echoes it.
async fn without_retries(body: Bytes) -> kube::Result<Body> {
    let request = Request::new(Body::from(body));
    Ok(Client::new(Echo, "").send(request).await?.into_body())
}

#[derive(Clone, Copy)]
struct Echo;

impl Service<Request<Body>> for Echo {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        ready(Ok(Response::new(request.into_body())))
    }
}
