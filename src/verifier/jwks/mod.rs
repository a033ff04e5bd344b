//! Offline verification, by the public keys of the issuer (JWKS, OIDC discovery).
//!
//! What it cannot see: a ServiceAccount, Pod or Secret that was deleted. Such a token is accepted until it expires; projected
//! tokens live for an hour by default. Where that is too long, ask the API server with
//! [`TokenReviewVerifier`](crate::TokenReviewVerifier).

mod algorithm;
mod build_error;
mod builder;
mod claims;
mod header;
mod key;
mod key_set;
mod key_snapshot;
mod loader;
mod metrics;
mod source;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::Duration};

pub use algorithm::Algorithm;
pub use build_error::JwksBuildError;
pub use builder::JwksBuilder;
use claims::{Claims, Expected};
use header::Header;
use key_set::Found;
use key_snapshot::LoadedKeys;
use loader::Loader;
pub use metrics::JwksMetrics;

use crate::{
    audience::Audiences,
    error::VerifyError,
    jws::{self, CompactJws},
    token::BearerToken,
    verdict::{RejectReason, Verdict},
    verifier::Verifier,
};

/// Verifies tokens by the public keys of their issuer: no call for a token, only one for the keys now and then.
///
/// Begin with where the keys come from, then [`build`](JwksBuilder::build):
///
/// | constructor | keys from | needs |
/// |---|---|---|
/// | [`in_cluster`](Self::in_cluster) | the API server | an [`ApiServer`](crate::ApiServer) |
/// | [`discover`](Self::discover) | the issuer's discovery document, over HTTPS | feature `http-discovery` |
/// | [`from_jwks`](Self::from_jwks), [`from_jwks_file`](Self::from_jwks_file) | a JWK Set at hand | an issuer |
/// | [`from_pem`](Self::from_pem) | public keys in PEM, as kube-apiserver's `--service-account-key-file` | an issuer |
///
/// The rules are those of Kubernetes' own ServiceAccount authenticator: the issuer is one of the configured ones, the key is
/// the one of the token's key id, the algorithm fits the key and is allowed, `exp`, `nbf` and `iat` hold within a leeway, and
/// `sub` says the same as the private claims. `exp` is required.
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_kube_auth::{Authenticator, BearerToken, JwksVerifier, testing::Cluster, verdict::Verdict};
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
/// Handles are cheap to clone and share their keys. When the last one is dropped, the background refresh ends.
#[derive(Clone)]
pub struct JwksVerifier {
    shared: Arc<Shared>,
}

struct Shared {
    loader: Loader,
    rules: Rules,
}

/// What a token is held against.
struct Rules {
    /// Empty where the issuer is learnt with the keys.
    issuers: Box<[Arc<str>]>,
    algorithms: Arc<[Algorithm]>,
    leeway: Duration,
    legacy_tokens: bool,
}

/// What verification with the keys at hand has come to.
enum Attempt {
    Decided(Verdict),
    /// The keys at hand have none of this key id, which is the token's.
    UnknownKey(Box<str>),
}

impl JwksVerifier {
    /// Loads the keys now. A service that does this when it starts fails early where the keys cannot be had; otherwise the
    /// first token does it.
    ///
    /// # Errors
    ///
    /// [`VerifyError`] if the keys cannot be had. The keys that were there before stay.
    pub async fn refresh(&self) -> Result<(), VerifyError> {
        self.shared.loader.refresh().await
    }

    /// What was counted since it was built. All handles share the counters.
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

    fn attempt(
        &self,
        token: BearerToken<'_>,
        audiences: &Audiences,
        loaded: &LoadedKeys,
    ) -> Attempt {
        self.try_to_decide(token, audiences, loaded)
            .unwrap_or_else(|reason| Attempt::Decided(Verdict::Reject(reason)))
    }

    fn try_to_decide(
        &self,
        token: BearerToken<'_>,
        audiences: &Audiences,
        loaded: &LoadedKeys,
    ) -> Result<Attempt, RejectReason> {
        let Shared { loader, rules } = &*self.shared;
        let jws = CompactJws::split(token.expose_secret()).ok_or(RejectReason::Malformed)?;
        let decoded = |part| jws::decode(part).ok_or(RejectReason::Malformed);
        let (header, claims) = (decoded(jws.header())?, decoded(jws.claims())?);
        let signature = decoded(jws.signature())?;
        let header = Header::parse(&header, &rules.algorithms)?;
        let claims = Claims::parse(&claims)?;
        let expected = Expected {
            issuers: if rules.issuers.is_empty() {
                loaded.issuer.as_slice()
            } else {
                &rules.issuers
            },
            audiences,
            leeway: rules.leeway,
            now: loader.clock().wall(),
            legacy_tokens: rules.legacy_tokens,
        };
        claims.check(&expected)?;
        match loaded.keys.verify(
            header.key_id.as_deref(),
            header.algorithm,
            jws.signed_text().as_bytes(),
            &signature,
        ) {
            Found::Verified => {
                claims.accept(&expected).map(|accepted| Attempt::Decided(Verdict::Accept(accepted)))
            }
            Found::BadSignature => Err(RejectReason::Signature),
            Found::WrongAlgorithm => Err(RejectReason::Algorithm),
            Found::UnknownKey => Ok(Attempt::UnknownKey(header.key_id.unwrap_or_default().into())),
        }
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
        let mut key_id = match self.attempt(token, audiences, &snapshot.loaded) {
            Attempt::Decided(verdict) => return Ok(verdict),
            Attempt::UnknownKey(key_id) => key_id,
        };
        loader.counters().unknown_keys.increment();
        // The key may be newer than our set. Only a set that was fetched after the token came can say that it is unknown.
        let arrival = arrival.unwrap_or_else(|| loader.arrival());
        while !snapshot.is_newer_than(arrival) {
            snapshot = match loader.newer(&key_id, arrival).await? {
                Some(newer) => newer,
                None => return Ok(Verdict::Reject(RejectReason::UnknownKey)),
            };
            key_id = match self.attempt(token, audiences, &snapshot.loaded) {
                Attempt::Decided(verdict) => return Ok(verdict),
                Attempt::UnknownKey(key_id) => key_id,
            };
        }
        Ok(Verdict::Reject(RejectReason::UnknownKey))
    }

    /// With a known key nothing is to be waited for, and neither with one that was looked for in vain a moment ago.
    fn verify_now(&self, token: BearerToken<'_>, audiences: &Audiences) -> Option<Verdict> {
        let loader = &self.shared.loader;
        match self.attempt(token, audiences, &loader.snapshot()?.loaded) {
            Attempt::Decided(verdict) => Some(verdict),
            Attempt::UnknownKey(key_id) if loader.is_known_missing(&key_id) => {
                loader.counters().unknown_keys.increment();
                Some(Verdict::Reject(RejectReason::UnknownKey))
            }
            Attempt::UnknownKey(_) => None,
        }
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
