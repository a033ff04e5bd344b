//! The options of an [`Authenticator`], all checked in `build()`.

mod checks;

use std::{sync::Arc, time::Duration};

use super::{
    authenticator::{Authenticator, Shared},
    build_error::AuthenticatorBuildError,
    precheck::Precheck,
    token_loader::TokenLoader,
};
#[cfg(feature = "watch")]
use crate::live_objects::LiveObjects;
use crate::{
    cache::{Capacities, Lifetimes, Limit, ReadThroughCache, VerdictCache},
    clock::Clock,
    counters::Counter,
    identity::AuthenticatorId,
    telemetry::{Hits, Stage},
    token::BearerToken,
    verifier::{DynVerifier, Verifier},
    warn_limit::WarnLimit,
};

impl Authenticator {
    /// Starts a builder with `verifier`. An audience must be set before
    /// [`build`](AuthenticatorBuilder::build).
    pub fn builder(verifier: impl Verifier) -> AuthenticatorBuilder {
        AuthenticatorBuilder::new(DynVerifier::new(verifier))
    }
}

/// Builds an [`Authenticator`]. Every option but the audience has a default.
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use tower_kube_auth::{Authenticator, TokenReviewVerifier, testing::Cluster};
///
/// let client = Cluster::start().await?.kube_client()?;
/// let auth = Authenticator::builder(TokenReviewVerifier::new(client))
///     .audience("orders")
///     .cache_ttl(Duration::from_secs(30))
///     .build()?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "call build() to get an Authenticator"]
pub struct AuthenticatorBuilder {
    verifier: DynVerifier,
    audiences: Vec<String>,
    api_server_audience: bool,
    any_audience: bool,
    issuers: Vec<String>,
    lifetimes: Lifetimes,
    capacities: Capacities,
    max_in_flight: usize,
    max_wait: Duration,
    verification_timeout: Duration,
    max_token_length: usize,
    realm: String,
    clock: Clock,
    #[cfg(feature = "watch")]
    live_objects: Option<LiveObjects>,
}

impl AuthenticatorBuilder {
    fn new(verifier: DynVerifier) -> Self {
        Self {
            verifier,
            audiences: Vec::new(),
            api_server_audience: false,
            any_audience: false,
            issuers: Vec::new(),
            lifetimes: Lifetimes {
                accepted: Duration::from_secs(60),
                rejected: Duration::from_secs(10),
                stale: Duration::ZERO,
            },
            capacities: Capacities { accepted: 10_000, rejected: 1_000 },
            max_in_flight: 64,
            max_wait: Duration::from_secs(1),
            verification_timeout: Duration::from_secs(15),
            max_token_length: BearerToken::DEFAULT_MAX_LENGTH,
            realm: "kubernetes".into(),
            clock: Clock::system(),
            #[cfg(feature = "watch")]
            live_objects: None,
        }
    }

    /// Adds an accepted audience. Required at least once, unless
    /// [`api_server_audience`](Self::api_server_audience) is set; a token must name at least one of
    /// them ([RFC 7519 §4.1.3](https://www.rfc-editor.org/rfc/rfc7519#section-4.1.3)).
    ///
    /// Choose a name that only this service uses, and have callers request their token for it. Do
    /// not use the API server's audience: such a token is also valid for the Kubernetes API, so
    /// this service could misuse it.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// Accepts tokens issued for the Kubernetes API server, in place of an
    /// [`audience`](Self::audience) of this service's own. Off by default.
    ///
    /// These are the tokens that every Pod has without asking, at
    /// `/var/run/secrets/kubernetes.io/serviceaccount/token`. Prometheus sends its own by default,
    /// so `/metrics` of an operator needs them; [`metrics_auth`](crate::metrics_auth()) sets this.
    ///
    /// The risk: a caller's token is also valid for the Kubernetes API, so whoever controls this
    /// service can act there as each of its callers, with their RBAC rights. Every workload of the
    /// cluster can authenticate here, and so can the tokens of Secrets, which never expire: put an
    /// authorize layer behind it. Prefer an audience of this service's own where callers can
    /// request one.
    ///
    /// TokenReview is asked without `spec.audiences`, which means this audience
    /// ([TokenReviewSpec]); the identity names the audiences that the answer names, if any. A
    /// `JwksVerifier` cannot ask, so it needs the name: `JwksBuilder::api_server_audience`. A
    /// verifier that does not
    /// [support it](crate::Verifier::supports_api_server_audience) is a build error.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tower_kube_auth::{
    ///     Authenticator, BearerToken, TokenReviewVerifier, Verdict, testing::Cluster,
    /// };
    ///
    /// let cluster = Cluster::start().await?;
    /// cluster.create_service_account("monitoring", "prometheus");
    /// let token = cluster.token("monitoring", "prometheus").issue()?;
    ///
    /// let verifier = TokenReviewVerifier::new(cluster.kube_client()?);
    /// let auth = Authenticator::builder(verifier).api_server_audience().build()?;
    /// assert!(matches!(auth.authenticate(BearerToken::parse(&token)?).await?, Verdict::Accept(_)));
    /// # Ok(()) }
    /// ```
    ///
    /// [TokenReviewSpec]: https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-review-v1/#TokenReviewSpec
    pub fn api_server_audience(mut self) -> Self {
        self.api_server_audience = true;
        self
    }

    /// Accepts tokens issued for any audience: see
    /// [`Audiences::dangerous_any`](crate::Audiences::dangerous_any). Off by default.
    pub fn dangerous_accept_any_audience(mut self) -> Self {
        self.any_audience = true;
        self
    }

    /// Adds an accepted issuer. Tokens of other issuers are rejected by their unverified `iss`
    /// before any verification, which saves TokenReviews. By default, only the verifier decides
    /// about issuers.
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuers.push(issuer.into());
        self
    }

    /// Sets how long an accepted token is served from the cache, ± 10 %, but never past its `exp`.
    /// Zero turns the cache off.
    ///
    /// Defaults to 60 s, as in controller-runtime. A revocation goes unnoticed for that long, plus
    /// the 10 s of the API server's own cache. A token in use past 80 % of its time is verified
    /// anew in the background, so that regular callers never wait.
    pub fn cache_ttl(mut self, ttl: Duration) -> Self {
        self.lifetimes.accepted = ttl;
        self
    }

    /// Keeps serving an accepted token for up to `grace` past its TTL while the verifier fails
    /// ([`VerifyError`]), but never past the token's `exp`. Off by default; at most 24 h.
    ///
    /// It trades revocation for availability: during an outage of the API server, the deletion of a
    /// ServiceAccount or Pod goes unnoticed for that much longer. Verification is retried once a
    /// second for each token in use, and takes effect at once. Compare `stale-if-error` of HTTP
    /// caches ([RFC 5861 §4](https://www.rfc-editor.org/rfc/rfc5861#section-4)).
    ///
    /// Strangers cannot cause it: saturation and inconclusive answers count only within 20 s after
    /// another failure of the verifier.
    ///
    /// [`VerifyError`]: crate::error::VerifyError
    pub fn serve_stale(mut self, grace: Duration) -> Self {
        self.lifetimes.stale = grace;
        self
    }

    /// Sets how long a rejection is served from the cache, ± 10 %. Zero turns that off.
    ///
    /// Defaults to 10 s: it shields the API server from callers that retry, and a token that
    /// becomes valid, because its ServiceAccount has just been created, is not rejected for long.
    pub fn reject_ttl(mut self, ttl: Duration) -> Self {
        self.lifetimes.rejected = ttl;
        self
    }

    /// Sets how many accepted tokens are cached. Defaults to 10 000, of up to 1 KiB each; a caller
    /// has one or two.
    pub fn cache_capacity(mut self, entries: u64) -> Self {
        self.capacities.accepted = entries;
        self
    }

    /// Sets how many rejections are cached. They never evict accepted tokens. Defaults to 1 000.
    pub fn reject_capacity(mut self, entries: u64) -> Self {
        self.capacities.rejected = entries;
        self
    }

    /// Sets the limit on concurrent verifications. Defaults to 64, and must be at least 2.
    /// Cache hits do not count. A quarter, at least one, is reserved for tokens that were accepted
    /// before, so that a flood of unknown tokens does not displace known callers.
    pub fn max_in_flight(mut self, verifications: usize) -> Self {
        self.max_in_flight = verifications;
        self
    }

    /// Sets how long a verification waits for a permit of [`max_in_flight`](Self::max_in_flight)
    /// before the answer is 503. Defaults to 1 s. At most 16 × `max_in_flight` wait; further ones
    /// are answered at once.
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = wait;
        self
    }

    /// Sets the time limit of one verification, including its wait for a permit; then the answer is
    /// 503.
    ///
    /// Defaults to 15 s, above the verifiers' own limits, whose errors are more specific.
    pub fn verification_timeout(mut self, limit: Duration) -> Self {
        self.verification_timeout = limit;
        self
    }

    /// Sets the maximum token length, in bytes. Defaults to 16 KiB; a ServiceAccount token has
    /// about 1 kB.
    pub fn max_token_length(mut self, bytes: usize) -> Self {
        self.max_token_length = bytes;
        self
    }

    /// Sets the `realm` of the `WWW-Authenticate` challenge
    /// ([RFC 6750 §3](https://www.rfc-editor.org/rfc/rfc6750#section-3)). Defaults to `kubernetes`.
    pub fn realm(mut self, realm: impl Into<String>) -> Self {
        self.realm = realm.into();
        self
    }

    /// Drops accepted tokens at once when `live_objects` sees that their ServiceAccount, or the Pod,
    /// Secret or Node that they are bound to, was deleted. Works with every verifier. Off by default,
    /// which leaves a deletion unnoticed for the [`cache_ttl`](Self::cache_ttl).
    ///
    /// - A deletion that is known rejects
    ///   ([`RejectReason::Deleted`](crate::verdict::RejectReason::Deleted)) what the verifier still
    ///   accepts: an API server answers from a cache of its own for up to 10 s.
    /// - No acceptance whose verification began before the deletion is cached or served after it.
    /// - An object with a deletion timestamp ends 60 s after that timestamp, as in kube-apiserver.
    /// - An object that the watch has not seen may have been deleted before: an acceptance that names
    ///   one is cached for 10 s at most.
    /// - A token that is bound to a Secret is dropped when any Secret of its namespace is deleted, if
    ///   Secrets are watched, because an identity does not name the Secret. The verifier then decides
    ///   about it. A verification that had begun is still served to those who wait for it.
    ///
    /// While the watch is out of order, deletions go unnoticed as long as without this option: for
    /// the TTL, or with [`JwksVerifier`](crate::JwksVerifier) until the token expires. So do those
    /// from before this process has watched, and those before the last 32 768 of a kind: the watch
    /// does not know them. `LocalReviewVerifier` accepts nobody in these cases. The cost is one pass
    /// over the cache for each deletion, and one for all that a list shows.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tower_kube_auth::{ApiServer, Authenticator, LiveObjects, TokenReviewVerifier, testing::Cluster};
    ///
    /// let cluster = Cluster::start().await?;
    /// let api = ApiServer::from(cluster.kube_client()?);
    /// let live_objects = LiveObjects::builder(api.clone()).build()?;
    /// let auth = Authenticator::builder(TokenReviewVerifier::new(api))
    ///     .audience("orders")
    ///     .invalidated_by(&live_objects)
    ///     .build()?;
    /// # let _ = auth;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "watch")]
    pub fn invalidated_by(mut self, live_objects: &LiveObjects) -> Self {
        self.live_objects = Some(live_objects.clone());
        self
    }

    /// Sets the clock. Defaults to the system's; tests use a manual one.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Checks all options and builds.
    ///
    /// # Errors
    ///
    /// [`AuthenticatorBuildError`], which names the option, the problem and the remedy.
    pub fn build(self) -> Result<Authenticator, AuthenticatorBuildError> {
        let audiences = self.checked()?;
        let verdicts = VerdictCache::new(self.capacities, self.lifetimes, self.clock.clone())
            .map_err(|_| AuthenticatorBuildError::NoRandomness)?;
        #[cfg(feature = "watch")]
        let verdicts = match &self.live_objects {
            Some(live_objects) => verdicts.revoked_by(live_objects),
            None => verdicts,
        };
        let loader = TokenLoader {
            precheck: Precheck::new(
                audiences.clone(),
                self.issuers,
                self.verifier.accepts_opaque_tokens(),
            ),
            verifier: self.verifier,
            audiences,
            rejected_by_precheck: Counter::default(),
            id: AuthenticatorId::next(),
        };
        let limit = Limit::new(self.max_in_flight, self.max_wait, self.clock.clone());
        let timeout = self.verification_timeout;
        let shared = Shared {
            max_token_length: self.max_token_length,
            realm: self.realm.into(),
            warn_limit: WarnLimit::default(),
            let_through: Counter::default(),
            report_limit: WarnLimit::default(),
            hits: Hits::new(Stage::Authentication, &self.clock),
        };
        let cache = Arc::new(ReadThroughCache::new(verdicts, loader, limit, timeout, self.clock));
        #[cfg(feature = "watch")]
        if let Some(live_objects) = &self.live_objects {
            cache.drop_deleted(live_objects);
        }
        Ok(Authenticator { cache, shared: Arc::new(shared) })
    }
}
