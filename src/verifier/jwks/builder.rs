//! The builder of [`JwksVerifier`], which checks all options in `build()`.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    algorithm::Algorithm,
    build_error::JwksBuildError,
    key_origin::{KeyOrigin, LoaderOptions},
    loader::Freshness,
    rules::Rules,
    verifier::JwksVerifier,
};
use crate::{audience::Audiences, clock::Clock};

/// Upper bound for the leeway, for which an expired token stays valid.
const MAX_LEEWAY: Duration = Duration::from_secs(300);

/// Builds a [`JwksVerifier`]. Every option has a default, except the issuer of keys that
/// are given or in a file.
#[must_use = "call build() to get a JwksVerifier"]
pub struct JwksBuilder {
    origin: KeyOrigin,
    issuers: Vec<String>,
    algorithms: Vec<Algorithm>,
    leeway: Duration,
    max_token_lifetime: Option<Duration>,
    freshness: Freshness,
    #[cfg(feature = "http-discovery")]
    roots: Vec<Vec<u8>>,
    legacy_tokens: bool,
    api_server_audiences: Vec<String>,
    clock: Clock,
}

impl JwksBuilder {
    pub(super) fn new(origin: KeyOrigin) -> Self {
        Self {
            origin,
            issuers: Vec::new(),
            algorithms: vec![Algorithm::RS256, Algorithm::ES256],
            leeway: Duration::from_secs(60),
            max_token_lifetime: None,
            freshness: Freshness {
                period: Duration::from_secs(300),
                cooldown: Duration::from_secs(10),
                fetch_timeout: Duration::from_secs(5),
                max_key_age: None,
            },
            #[cfg(feature = "http-discovery")]
            roots: Vec::new(),
            legacy_tokens: false,
            api_server_audiences: Vec::new(),
            clock: Clock::system(),
        }
    }

    /// Adds an issuer (`iss`) whose tokens are accepted. It is compared exactly. A migration to a
    /// new issuer needs several.
    ///
    /// Defaults to the issuer in the discovery document. Keys that are given or in a file have no
    /// discovery document, so they need at least one issuer.
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuers.push(issuer.into());
        self
    }

    /// Sets the allowed algorithms. Defaults to `RS256` and `ES256`. Each key verifies only those
    /// that fit its type and its own `alg`.
    pub fn algorithms(mut self, algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        self.algorithms = algorithms.into_iter().collect();
        self
    }

    /// Sets the tolerated clock skew for `exp`, `nbf` and `iat`. Defaults to 60 s, as in
    /// Kubernetes; at most 5 min.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// Rejects tokens whose lifetime, `exp` − `iat`, is longer than `limit`, and tokens without
    /// `iat`. Off by default.
    ///
    /// Offline verification accepts the token of a deleted Pod until its `exp`, so the lifetime is
    /// the bound for revocation. A projected token lives for `expirationSeconds`, an hour by
    /// default. The tokens for the API server's audience that Pods have without asking are
    /// requested for 3 607 s, but have an `exp` a year away (kube-apiserver's
    /// `--service-account-extend-token-expiration`, on by default).
    pub fn max_token_lifetime(mut self, limit: Duration) -> Self {
        self.max_token_lifetime = Some(limit);
        self
    }

    /// Sets the period of the background refresh, ± 10 %: of a fetch, or of reading the file.
    /// Defaults to 5 min. A key that the issuer has removed verifies tokens until then. A key that
    /// it has *added* is fetched when the first token signed by it arrives.
    pub fn refresh_interval(mut self, period: Duration) -> Self {
        self.freshness.period = period;
        self
    }

    /// Sets the shortest time between two fetches that unknown key ids trigger. Defaults to 10 s,
    /// so that a flood of invented key ids costs the issuer six fetches a minute. The first load,
    /// the background refresh and [`refresh`](JwksVerifier::refresh) do not count.
    ///
    /// Within this time a token with another unknown key id is undecided (503), not rejected. The
    /// key ids that the fetch was for, and did not bring, are rejected.
    pub fn unknown_key_cooldown(mut self, pause: Duration) -> Self {
        self.freshness.cooldown = pause;
        self
    }

    /// Stops using keys whose fetch began longer than `limit` ago: until they are fetched again,
    /// verification is undecided (503). Off by default: while every refresh fails, the last keys
    /// stay in use, also those that the issuer has removed meanwhile.
    ///
    /// Must be longer than [`refresh_interval`](Self::refresh_interval) + 10 % and
    /// [`fetch_timeout`](Self::fetch_timeout), and set only for keys that are fetched or in a file.
    /// It trades the availability of offline verification for the bound on a removed key.
    pub fn max_key_age(mut self, limit: Duration) -> Self {
        self.freshness.max_key_age = Some(limit);
        self
    }

    /// Sets the time limit of a fetch. Defaults to 5 s.
    pub fn fetch_timeout(mut self, limit: Duration) -> Self {
        self.freshness.fetch_timeout = limit;
        self
    }

    /// Trusts only the CA certificates of a PEM text for [`discover`](JwksVerifier::discover).
    /// Defaults to those of the platform.
    #[cfg(feature = "http-discovery")]
    pub fn root_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.roots.push(pem.into());
        self
    }

    /// Adds a name of the API server's audience, for an authenticator with [`api_server_audience`].
    /// It is compared exactly. Without one, such an authenticator is a build error.
    ///
    /// The names are those of kube-apiserver's `--api-audiences`, by default the issuer. Name all
    /// of them: a token for another one is rejected.
    ///
    /// Tokens that Pods have without asking are valid for a year by their `exp`
    /// (`--service-account-extend-token-expiration`), and offline verification does not see the
    /// deletion of their Pod.
    ///
    /// [`api_server_audience`]: crate::authenticator::AuthenticatorBuilder::api_server_audience
    pub fn api_server_audience(mut self, audience: impl Into<String>) -> Self {
        self.api_server_audiences.push(audience.into());
        self
    }

    /// Also accepts the tokens of Secrets of type `kubernetes.io/service-account-token`. Off by
    /// default.
    ///
    /// They have no audience and never expire. Every service that ever received one can use it
    /// here, even after its Secret was deleted, which offline verification does not see.
    pub fn dangerous_accept_legacy_tokens(mut self) -> Self {
        self.legacy_tokens = true;
        self
    }

    /// Sets the clock. Defaults to the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Checks all options and builds the verifier. Nothing is fetched yet.
    ///
    /// # Errors
    ///
    /// [`JwksBuildError`], which names the wrong option and the remedy.
    pub fn build(self) -> Result<JwksVerifier, JwksBuildError> {
        self.check()?;
        let api_server_audiences = match self.api_server_audiences {
            none if none.is_empty() => None,
            names => Some(Audiences::new(names).map_err(JwksBuildError::ApiServerAudience)?),
        };
        let algorithms: Arc<[Algorithm]> = self.algorithms.into();
        let loader = self.origin.into_loader(LoaderOptions {
            algorithms: &algorithms,
            freshness: self.freshness,
            clock: self.clock,
            learn_issuer: self.issuers.is_empty(),
            #[cfg(feature = "http-discovery")]
            roots: &self.roots,
        })?;
        let rules = Rules {
            issuers: self.issuers.into_iter().map(Arc::from).collect(),
            algorithms,
            leeway: self.leeway,
            max_token_lifetime: self.max_token_lifetime,
            legacy_tokens: self.legacy_tokens,
            api_server_audiences,
        };
        Ok(JwksVerifier::new(loader, rules))
    }

    fn check(&self) -> Result<(), JwksBuildError> {
        if self.origin.needs_issuer() && self.issuers.is_empty() {
            return Err(JwksBuildError::NoIssuer);
        }
        let is_invalid = |issuer: &&String| issuer.is_empty() || issuer.trim() != **issuer;
        if let Some(issuer) = self.issuers.iter().find(is_invalid) {
            return Err(JwksBuildError::Issuer {
                issuer: issuer.clone(),
                why: "is empty or has white space at an end",
            });
        }
        if self.algorithms.is_empty() {
            return Err(JwksBuildError::NoAlgorithm);
        }
        if self.leeway > MAX_LEEWAY {
            return Err(JwksBuildError::LeewayTooLong { leeway: self.leeway, limit: MAX_LEEWAY });
        }
        let Freshness { period, fetch_timeout, max_key_age, .. } = self.freshness;
        for (option, value) in [
            ("refresh_interval", period),
            ("fetch_timeout", fetch_timeout),
            ("max_token_lifetime", self.max_token_lifetime.unwrap_or(Duration::MAX)),
        ] {
            if value.is_zero() {
                return Err(JwksBuildError::Zero(option));
            }
        }
        if let Some(limit) = max_key_age {
            if self.origin.is_given() {
                return Err(JwksBuildError::KeyAgeOfGivenKeys);
            }
            let least = self.freshness.longest_round();
            if limit <= least {
                return Err(JwksBuildError::KeyAgeTooShort { limit, least });
            }
        }
        Ok(())
    }
}

impl fmt::Debug for JwksBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwksBuilder")
            .field("issuers", &self.issuers)
            .field("algorithms", &self.algorithms)
            .field("leeway", &self.leeway)
            .field("max_token_lifetime", &self.max_token_lifetime)
            .field("freshness", &self.freshness)
            .field("legacy_tokens", &self.legacy_tokens)
            .field("api_server_audiences", &self.api_server_audiences)
            .finish_non_exhaustive()
    }
}
