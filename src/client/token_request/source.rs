//! The token source of the TokenRequest API.

use std::fmt;

use super::request::Request;
use crate::client::{Token, TokenError, TokenSource, refresher::Refresher};

/// Requests tokens of a ServiceAccount from the API server ([TokenRequest]) and replaces them
/// before they expire.
///
/// It needs the right to `create` `serviceaccounts/token`. Restrict it to the one ServiceAccount by
/// `resourceNames`, because a token carries all rights of its ServiceAccount:
/// `examples/kubernetes/client-token-request.yaml` does. If the audience is known when the Pod's
/// manifest is written, [`ProjectedToken`](crate::client::ProjectedToken) needs no right at all.
///
/// The first call of [`token`](TokenSource::token), which must be within a Tokio runtime, requests
/// the first token and starts a background task, one for all clones of a source. The task replaces
/// the token after 80 % of its lifetime, after 24 h at most (kubelet's rule), with jitter to the
/// early side. The lifetime is that of `status.expirationTimestamp`, never that of the token's own
/// `exp`, which the API server may extend to a year. The task ends with the last clone. Callers
/// read the token from memory.
///
/// If a request fails, the old token is returned until it expires, and another request is made
/// after 1 s, then at growing intervals of up to 30 s. Each request makes up to five attempts
/// within its [time limit](crate::client::TokenRequestBuilder::timeout); see
/// [`ApiServer`](crate::ApiServer). After a 401 ([`invalidate`](TokenSource::invalidate)) a new
/// token is requested at once, at most every 10 s.
///
/// ```
/// use std::time::Duration;
/// use tower_kube_auth::{client::{TokenRequestSource, TokenSource}, testing::Cluster};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cluster = Cluster::start().await?;
/// cluster.create_service_account("shop", "checkout");
/// cluster.grant_token_request("system:serviceaccount:shop:checkout", "shop", &["checkout"]);
/// let client = cluster.client_for(cluster.token("shop", "checkout").issue()?)?;
///
/// let source = TokenRequestSource::builder(client)
///     .namespace("shop")
///     .service_account("checkout")
///     .audience("orders")
///     .expires_in(Duration::from_secs(1200))
///     .build()?;
/// let token = source.token().await?;
/// assert_eq!(token.expose_secret().split('.').count(), 3);
/// # Ok(()) }
/// ```
///
/// [TokenRequest]: https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-request-v1/
#[derive(Clone)]
pub struct TokenRequestSource(Refresher<Request>);

impl TokenRequestSource {
    pub(super) fn new(refresher: Refresher<Request>) -> Self {
        Self(refresher)
    }
}

impl TokenSource for TokenRequestSource {
    /// # Errors
    ///
    /// If there is no valid token: a [kind](crate::client::TokenErrorKind) for each way in which
    /// the API server fails, with what to do about it in the message;
    /// [`Aborted`](crate::client::TokenErrorKind::Aborted) outside a Tokio runtime.
    async fn token(&self) -> Result<Token, TokenError> {
        self.0.token().await
    }

    fn invalidate(&self, token: &Token) {
        self.0.invalidate(token);
    }
}

impl fmt::Debug for TokenRequestSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TokenRequestSource").field(&self.0).finish()
    }
}
