//! Tokens that the API server issues on request: the TokenRequest API.

mod builder;
mod request;
#[cfg(test)]
mod soak;
mod subject;
#[cfg(test)]
mod tests;

use std::fmt;

use kube::Client;

use super::{Token, TokenError, TokenSource, refresher::Refresher};
use request::Request;

pub use builder::{TokenRequestBuildError, TokenRequestBuilder};
pub use subject::BoundObjectRef;

/// Asks the API server for a token of a ServiceAccount ([TokenRequest]), and for the next one in time.
///
/// It takes the right to `create` `serviceaccounts/token`, which is best restricted to the one ServiceAccount by
/// `resourceNames`, because a token is all of its ServiceAccount's power: see `examples/kubernetes/client-token-request.yaml`. Where the
/// audience is known when the Pod's manifest is written, [`ProjectedToken`](super::ProjectedToken) needs no right at all.
///
/// The first token is asked for when the first caller wants one. From then on a background task, one for all clones of a
/// source, replaces it when 80 % of its life has passed, after 24 h at most (kubelet's rule), with jitter to the early
/// side. Life is counted from `status.expirationTimestamp`, never from the token's own `exp`, which the API server may
/// stretch to a year. Callers read the token from memory.
///
/// When a request fails, the old token is handed out until it expires, and another request is made after 1 s, then at growing
/// intervals of up to 30 s. (Within each, 429, 5xx and broken connections are tried again, up to five times in
/// [10 s](TokenRequestBuilder::timeout). `kube::Client` has a retry of its own by default, which multiplies the calls;
/// `Config::default_retry = false` leaves the matter to this source.) After a 401 ([`invalidate`](TokenSource::invalidate)) a new token is requested at once, but no more
/// often than every 10 s. The task starts with the first call of [`token`](TokenSource::token), which must be inside a
/// Tokio runtime, and ends when the last clone is dropped.
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
    /// Requests tokens from the API server of `client`.
    pub fn builder(client: Client) -> TokenRequestBuilder {
        TokenRequestBuilder::new(client)
    }
}

impl TokenSource for TokenRequestSource {
    /// # Errors
    ///
    /// If there is no token that is still good: a [kind](super::TokenErrorKind) for each way in which the API server can fail or
    /// refuse, with what to do about it in the message; [`Aborted`](super::TokenErrorKind::Aborted) outside of a Tokio runtime.
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
