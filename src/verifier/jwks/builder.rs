//! The options of a [`JwksVerifier`], checked all at once in `build()`.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use super::{
    JwksVerifier, Rules, Shared,
    algorithm::Algorithm,
    build_error::{JwksBuildError, LONGEST_LEEWAY},
    key_set::KeySet,
    loader::{Freshness, Loader},
    source,
};
use crate::{api_server::ApiServer, clock::Clock};

impl JwksVerifier {
    /// Takes the keys from `api_server`: `/openid/v1/jwks`, and unless an
    /// [`issuer`](JwksBuilder::issuer) is given, that from `/.well-known/openid-configuration`.
    ///
    /// Our own ServiceAccount needs the ClusterRole `system:service-account-issuer-discovery`, which every ServiceAccount
    /// has by default. The advertised `jwks_uri` is never followed.
    pub fn in_cluster(api_server: impl Into<ApiServer>) -> JwksBuilder {
        JwksBuilder::new(Keys::Cluster(api_server.into()))
    }

    /// Takes the keys from an issuer outside of the cluster, by [OpenID Connect Discovery] over HTTPS. No token of ours is
    /// sent there.
    ///
    /// [OpenID Connect Discovery]: https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderConfig
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tower_kube_auth::JwksVerifier;
    ///
    /// let verifier = JwksVerifier::discover("https://oidc.example.org/clusters/a").build()?;
    /// assert!(JwksVerifier::discover("http://oidc.example.org").build().is_err());
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "http-discovery")]
    pub fn discover(issuer: impl Into<String>) -> JwksBuilder {
        let issuer = issuer.into();
        JwksBuilder::new(Keys::Issuer(issuer.clone())).issuer(issuer)
    }

    /// Takes the keys of a JWK Set ([RFC 7517 §5]); they never change.
    ///
    /// [RFC 7517 §5]: https://www.rfc-editor.org/rfc/rfc7517#section-5
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tower_kube_auth::{JwksVerifier, testing::Cluster};
    ///
    /// let cluster = Cluster::start().await?;
    /// let verifier = JwksVerifier::from_jwks(cluster.jwks_json()).issuer(cluster.issuer()).build()?;
    /// # Ok(()) }
    /// ```
    pub fn from_jwks(json: impl Into<String>) -> JwksBuilder {
        JwksBuilder::new(Keys::JwkSet(json.into()))
    }

    /// The same from a file, which is read once, in [`build`](JwksBuilder::build).
    pub fn from_jwks_file(path: impl Into<PathBuf>) -> JwksBuilder {
        JwksBuilder::new(Keys::JwkSetFile(path.into()))
    }

    /// Takes the `PUBLIC KEY` blocks of a PEM text; they never change. Their key ids are those that kube-apiserver gives them.
    pub fn from_pem(pem: impl Into<String>) -> JwksBuilder {
        JwksBuilder::new(Keys::Pem(pem.into()))
    }
}

/// Builds a [`JwksVerifier`]. Every option has a default, but keys that are given need an issuer.
#[must_use = "call build() to get a JwksVerifier"]
pub struct JwksBuilder {
    keys: Keys,
    issuers: Vec<String>,
    algorithms: Vec<Algorithm>,
    leeway: Duration,
    freshness: Freshness,
    #[cfg(feature = "http-discovery")]
    roots: Vec<Vec<u8>>,
    legacy_tokens: bool,
    clock: Clock,
}

enum Keys {
    Cluster(ApiServer),
    #[cfg(feature = "http-discovery")]
    Issuer(String),
    JwkSet(String),
    JwkSetFile(PathBuf),
    Pem(String),
    #[cfg(test)]
    Scripted(super::tests::ScriptedSource),
}

impl JwksBuilder {
    fn new(keys: Keys) -> Self {
        Self {
            keys,
            issuers: Vec::new(),
            algorithms: vec![Algorithm::RS256, Algorithm::ES256],
            leeway: Duration::from_secs(60),
            freshness: Freshness {
                period: Duration::from_secs(300),
                cooldown: Duration::from_secs(10),
                fetch_timeout: Duration::from_secs(5),
            },
            #[cfg(feature = "http-discovery")]
            roots: Vec::new(),
            legacy_tokens: false,
            clock: Clock::system(),
        }
    }

    #[cfg(test)]
    pub(super) fn scripted(script: super::tests::ScriptedSource) -> Self {
        Self::new(Keys::Scripted(script))
    }

    /// Adds an issuer (`iss`) whose tokens are accepted, compared as it stands. Several are what a migration to a new issuer
    /// needs.
    ///
    /// Defaults to the one that discovery names. Keys that are given have no discovery, so they need at least one.
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuers.push(issuer.into());
        self
    }

    /// Sets the allowed algorithms. Defaults to `RS256` and `ES256`. Each key is further bound to those that fit its type and
    /// its own `alg`.
    pub fn algorithms(mut self, algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        self.algorithms = algorithms.into_iter().collect();
        self
    }

    /// Sets by how much clocks may differ when `exp`, `nbf` and `iat` are checked. Defaults to 60 s, Kubernetes' own; at most
    /// 5 min.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// Sets how often the keys are fetched in the background, ± 10 %. Defaults to 5 min: that long a key that was removed may
    /// go on to verify. A key that was *added* is fetched when its first token arrives.
    pub fn refresh_interval(mut self, period: Duration) -> Self {
        self.freshness.period = period;
        self
    }

    /// Sets how long after a fetch that a token caused no other token causes one. Defaults to 10 s, so that a flood of made-up
    /// key ids costs the issuer six fetches a minute. The first load, the background refresh and
    /// [`refresh`](JwksVerifier::refresh) do not count.
    ///
    /// Meanwhile a token with another unknown key id is undecided (503), not refused. The key ids that the fetch was for, and
    /// did not bring, are refused.
    pub fn unknown_key_cooldown(mut self, pause: Duration) -> Self {
        self.freshness.cooldown = pause;
        self
    }

    /// Sets the time limit of a fetch. Defaults to 5 s.
    pub fn fetch_timeout(mut self, limit: Duration) -> Self {
        self.freshness.fetch_timeout = limit;
        self
    }

    /// Trusts the CA certificates of a PEM text, and only those, for [`discover`](JwksVerifier::discover). Defaults to the
    /// platform's.
    #[cfg(feature = "http-discovery")]
    pub fn root_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.roots.push(pem.into());
        self
    }

    /// Accepts the tokens of Secrets of type `kubernetes.io/service-account-token` too. Off by default.
    ///
    /// They have no audience and never expire, so that whoever gets hold of one, every service that ever was sent it for
    /// instance, can use it here for good; and offline verification does not see it being deleted.
    pub fn dangerous_accept_legacy_tokens(mut self) -> Self {
        self.legacy_tokens = true;
        self
    }

    /// Sets the clock. Defaults to the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Checks all options and builds. Nothing is fetched yet.
    ///
    /// # Errors
    ///
    /// [`JwksBuildError`], which names what is wrong and what to do.
    pub fn build(self) -> Result<JwksVerifier, JwksBuildError> {
        self.check()?;
        let Self { issuers, leeway, freshness, legacy_tokens, clock, .. } = self;
        let algorithms: Arc<[Algorithm]> = self.algorithms.into();
        let fixed = |keys, clock| Loader::fixed(keys, Arc::clone(&algorithms), freshness, clock);
        let loader = match self.keys {
            Keys::Cluster(api_server) => {
                let limit = freshness.fetch_timeout;
                let source = source::ClusterSource::new(
                    api_server,
                    limit,
                    clock.clone(),
                    issuers.is_empty(),
                );
                Loader::new(
                    source::Source::Cluster(source),
                    Arc::clone(&algorithms),
                    freshness,
                    clock,
                )
            }
            #[cfg(feature = "http-discovery")]
            Keys::Issuer(issuer) => {
                let source =
                    source::IssuerSource::new(issuer, &self.roots, freshness.fetch_timeout)?;
                Loader::new(
                    source::Source::Issuer(source),
                    Arc::clone(&algorithms),
                    freshness,
                    clock,
                )
            }
            Keys::JwkSet(json) => fixed(read_set(json.as_bytes(), &algorithms)?, clock),
            Keys::JwkSetFile(path) => {
                let json = std::fs::read(&path)
                    .map_err(|error| JwksBuildError::File { path, why: error.to_string() })?;
                fixed(read_set(&json, &algorithms)?, clock)
            }
            Keys::Pem(pem) => {
                let keys = KeySet::from_pem(pem.as_bytes(), &algorithms);
                fixed(keys.map_err(|invalid| JwksBuildError::Keys(invalid.to_string()))?, clock)
            }
            #[cfg(test)]
            Keys::Scripted(script) => Loader::new(
                source::Source::Scripted(script),
                Arc::clone(&algorithms),
                freshness,
                clock,
            ),
        };
        let issuers = issuers.into_iter().map(Arc::from).collect();
        let rules = Rules { issuers, algorithms, leeway, legacy_tokens };
        Ok(JwksVerifier { shared: Arc::new(Shared { loader, rules }) })
    }

    fn check(&self) -> Result<(), JwksBuildError> {
        let given = matches!(self.keys, Keys::JwkSet(_) | Keys::JwkSetFile(_) | Keys::Pem(_));
        if given && self.issuers.is_empty() {
            return Err(JwksBuildError::NoIssuer);
        }
        if let Some(issuer) =
            self.issuers.iter().find(|issuer| issuer.is_empty() || issuer.trim() != *issuer)
        {
            return Err(JwksBuildError::Issuer {
                issuer: issuer.clone(),
                why: "is empty or has white space at an end",
            });
        }
        if self.algorithms.is_empty() {
            return Err(JwksBuildError::NoAlgorithm);
        }
        if self.leeway > LONGEST_LEEWAY {
            return Err(JwksBuildError::Leeway(self.leeway));
        }
        for (option, value) in [
            ("refresh_interval", self.freshness.period),
            ("fetch_timeout", self.freshness.fetch_timeout),
        ] {
            if value.is_zero() {
                return Err(JwksBuildError::Zero(option));
            }
        }
        Ok(())
    }
}

/// A set that was given must have a key that can be used: unlike a fetched one, it will never get another.
fn read_set(json: &[u8], algorithms: &[Algorithm]) -> Result<KeySet, JwksBuildError> {
    let keys = KeySet::from_json(json, algorithms)
        .map_err(|invalid| JwksBuildError::Keys(invalid.to_string()))?;
    if keys.len() == 0 {
        return Err(JwksBuildError::Keys(
            "no key of it can be used with the allowed algorithms; the log says why".into(),
        ));
    }
    Ok(keys)
}

impl fmt::Debug for JwksBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwksBuilder")
            .field("issuers", &self.issuers)
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}
