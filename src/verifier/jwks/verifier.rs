//! The verifier that needs no call per token.

use std::{fmt, sync::Arc};

use super::{
    key_snapshot::LoadedKeys,
    loader::Loader,
    metrics::JwksMetrics,
    rules::{Evaluation, Rules},
};
use crate::{
    audience::Audiences,
    error::VerifyError,
    readiness::Need,
    token::BearerToken,
    verdict::{RejectReason, Verdict},
    verifier::Verifier,
};

/// Verifies tokens with the public keys of their issuer: it fetches keys, and calls nothing per
/// token.
///
/// Choose where the keys come from, then call [`build`](super::JwksBuilder::build):
///
/// | constructor | keys from | needs |
/// |---|---|---|
/// | [`in_cluster`](Self::in_cluster) | the API server | an [`ApiServer`](crate::ApiServer) |
/// | [`discover`](Self::discover) | the issuer's discovery document, over HTTPS | feature `http-discovery` |
/// | [`from_jwks`](Self::from_jwks) | a given JWK Set | an issuer |
/// | [`from_jwks_file`](Self::from_jwks_file) | a JWK Set in a file, which may be replaced | an issuer |
/// | [`from_pem`](Self::from_pem) | public keys in PEM, as in kube-apiserver's `--service-account-key-file` | an issuer |
///
/// The rules are those of Kubernetes' own ServiceAccount authenticator:
///
/// - the issuer is one of the configured ones;
/// - the key is the one with the token's key id, and the algorithm is allowed and fits the key;
/// - `exp`, `nbf` and `iat` hold within a leeway, and `exp` is required;
/// - `sub` agrees with the private claims.
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_kube_auth::{
///     Authenticator, BearerToken, JwksVerifier, testing::Cluster, verdict::Verdict,
/// };
///
/// let cluster = Cluster::start().await?;
/// cluster.create_service_account("shop", "checkout");
/// let token = cluster.token("shop", "checkout").audience("orders").issue()?;
///
/// let verifier = JwksVerifier::in_cluster(cluster.kube_client()?).build()?;
/// let auth = Authenticator::builder(verifier).audience("orders").build()?;
/// assert!(matches!(auth.authenticate(BearerToken::parse(&token)?).await?, Verdict::Accept(_)));
/// # Ok(()) }
/// ```
///
/// Clones share the keys. The background refresh ends when the last clone is dropped.
#[derive(Clone)]
pub struct JwksVerifier {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) loader: Loader,
    rules: Rules,
}

impl JwksVerifier {
    pub(super) fn new(loader: Loader, rules: Rules) -> Self {
        Self { shared: Arc::new(Shared { loader, rules }) }
    }

    /// Fetches the keys now, or reads their file. Otherwise the first token does. A service that
    /// calls this at startup fails early if the keys cannot be fetched.
    ///
    /// # Errors
    ///
    /// [`VerifyError`] if the keys cannot be fetched. Keys that are already loaded stay in use.
    pub async fn refresh(&self) -> Result<(), VerifyError> {
        self.shared.loader.refresh().await
    }

    /// Returns the counters since the verifier was built. Clones share them.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tower_kube_auth::{JwksVerifier, testing::Cluster};
    ///
    /// let cluster = Cluster::start().await?;
    /// let verifier = JwksVerifier::in_cluster(cluster.kube_client()?).build()?;
    /// verifier.refresh().await?;
    /// let metrics = verifier.metrics();
    /// assert_eq!((metrics.fetches, metrics.failed_fetches, metrics.keys), (1, 0, 1));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn metrics(&self) -> JwksMetrics {
        self.shared.loader.metrics()
    }

    #[cfg(feature = "watch")]
    pub(crate) fn clock(&self) -> &crate::clock::Clock {
        self.shared.loader.clock()
    }

    fn evaluate(
        &self,
        token: BearerToken<'_>,
        audiences: &Audiences,
        loaded: &LoadedKeys,
    ) -> Evaluation {
        let Shared { loader, rules } = &*self.shared;
        rules.evaluate(token, audiences, loaded, loader.clock().wall())
    }
}

impl Verifier for JwksVerifier {
    async fn verify(
        &self,
        token: BearerToken<'_>,
        audiences: &Audiences,
    ) -> Result<Verdict, VerifyError> {
        let loader = &self.shared.loader;
        let (mut snapshot, arrival) = match loader.snapshot() {
            Some(snapshot) => (snapshot, None),
            None => {
                let arrival = loader.arrival();
                (loader.load().await?, Some(arrival))
            }
        };
        let mut key_id = match self.evaluate(token, audiences, &snapshot.loaded) {
            Evaluation::Decided(verdict) => return Ok(verdict),
            Evaluation::UnknownKey(key_id) => key_id,
        };
        loader.counters().unknown_keys.increment();
        // The key may be newer than the loaded ones. Only keys whose fetch began after the token
        // arrived prove that it does not exist.
        let arrival = arrival.unwrap_or_else(|| loader.arrival());
        while !snapshot.is_newer_than(arrival) {
            snapshot = match loader.newer(&key_id, arrival).await? {
                Some(newer) => newer,
                None => return Ok(Verdict::Reject(RejectReason::UnknownKey)),
            };
            key_id = match self.evaluate(token, audiences, &snapshot.loaded) {
                Evaluation::Decided(verdict) => return Ok(verdict),
                Evaluation::UnknownKey(key_id) => key_id,
            };
        }
        Ok(Verdict::Reject(RejectReason::UnknownKey))
    }

    /// Needs no I/O if the key is loaded, or if a recent fetch has shown that it does not exist.
    fn verify_now(&self, token: BearerToken<'_>, audiences: &Audiences) -> Option<Verdict> {
        let loader = &self.shared.loader;
        match self.evaluate(token, audiences, &loader.snapshot()?.loaded) {
            Evaluation::Decided(verdict) => Some(verdict),
            Evaluation::UnknownKey(key_id) if loader.is_known_missing(&key_id) => {
                loader.counters().unknown_keys.increment();
                Some(Verdict::Reject(RejectReason::UnknownKey))
            }
            Evaluation::UnknownKey(_) => None,
        }
    }

    fn warm_up(&self) {
        self.shared.loader.warm_up();
    }

    fn stop_background_tasks(&self) {
        self.shared.loader.stop_background_tasks();
    }

    fn supports_api_server_audience(&self) -> bool {
        self.shared.rules.api_server_audiences.is_some()
    }

    /// Usable keys that are not older than three refresh periods. Loads them if there are none.
    async fn check_needs(&self) -> Vec<Need> {
        vec![self.shared.loader.check().await]
    }
}

impl fmt::Debug for JwksVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwksVerifier")
            .field("source", self.shared.loader.source())
            .field("issuers", &self.shared.rules.issuers)
            .field("algorithms", &self.shared.rules.algorithms)
            .finish_non_exhaustive()
    }
}
