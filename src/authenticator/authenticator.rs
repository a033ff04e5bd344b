//! The [`Authenticator`]: the handle that services and layers hold.

use std::{fmt, sync::Arc, time::Duration};

use super::{metrics::AuthenticatorMetrics, token_loader::TokenLoader};
use crate::{
    audience::Audiences,
    cache::{Digest, Load, Lookup, ReadThroughCache},
    counters::Counter,
    error::VerifyError,
    identity::ServiceAccountIdentity,
    telemetry::{self, CacheStatus, Hits, Stage},
    token::{BearerToken, PresentedToken},
    verdict::{Acceptance, Outcome, Verdict},
    verifier::Verifier,
    warn_limit::WarnLimit,
};

/// Authenticates bearer tokens with a [`Verifier`](crate::Verifier), behind a cache, a pre-check
/// and a limit on concurrent verifications. Concurrent requests with one token share one
/// verification.
///
/// Handles are cheap to clone and share one state, as do all layers made from them.
///
/// [`layer`](Self::layer) puts it in front of a Tower service. Without Tower:
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_kube_auth::{Authenticator, BearerToken, TokenReviewVerifier, Verdict, testing};
///
/// let cluster = testing::Cluster::start().await?;
/// cluster.create_service_account("shop", "checkout");
/// let token = cluster.token("shop", "checkout").audience("orders").issue()?;
///
/// let verifier = TokenReviewVerifier::new(cluster.kube_client()?);
/// let auth = Authenticator::builder(verifier).audience("orders").build()?;
/// match auth.authenticate(BearerToken::parse(&token)?).await? {
///     Verdict::Accept(acceptance) => println!("hello, {}", acceptance.identity()),
///     Verdict::Reject(reason) => println!("no: {reason}"),
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Authenticator {
    pub(super) cache: Arc<ReadThroughCache<TokenLoader>>,
    pub(super) shared: Arc<Shared>,
}

/// What the middleware needs besides the cache.
pub(super) struct Shared {
    pub(super) max_token_length: usize,
    pub(super) realm: Arc<str>,
    pub(super) warn_limit: WarnLimit,
    /// Requests that report-only layers let through.
    pub(super) let_through: Counter,
    pub(super) report_limit: WarnLimit,
    pub(super) hits: Hits,
}

impl Authenticator {
    /// Decides about `token`, from the cache or by the verifier.
    ///
    /// Dropping the future does not end a verification that other requests wait for; dropping the
    /// last handle does. Must be called within a Tokio runtime with its timer enabled.
    ///
    /// # Errors
    ///
    /// [`VerifyError`] if no decision was reached. It says nothing about the token and is not
    /// cached.
    pub async fn authenticate(&self, token: BearerToken<'_>) -> Result<Verdict, VerifyError> {
        let digest = self.digest(token.into());
        if let Some(identity) = self.cached(token.into(), &digest) {
            return Ok(Verdict::Accept(Acceptance::new(identity)));
        }
        let outcome = match self.lookup(token, digest) {
            Lookup::Decided(outcome) => outcome,
            Lookup::Waiting(waiting) => waiting.await,
        };
        telemetry::attempt(Stage::Authentication, TokenLoader::result(&outcome));
        outcome
    }

    /// Ends verification, for a service that exits: begins none from now on, waits for those under
    /// way for at most `limit`, aborts the rest, and ends the verifier's background tasks, such as
    /// the refresh of keys.
    ///
    /// Call it after the server has ended its requests. A request that comes later is served from
    /// the cache as long as its entry is valid, cached rejections included; any other token is
    /// undecided, also one that would be rejected: 503 with `Retry-After`. The self-check and
    /// `/readyz` report the shutdown.
    ///
    /// All handles and layers of this authenticator are shut down with it. Other authenticators
    /// that share its verifier are not. Dropping the future aborts what it waits for.
    ///
    /// Tasks also end with the last handle, so this is for a service that waits for them, or that
    /// keeps handles.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use axum::{Router, routing::get};
    /// use tower_kube_auth::{Authenticator, TokenReviewVerifier, testing::Cluster};
    ///
    /// # let cluster = Cluster::start().await?;
    /// # let api = cluster.kube_client()?;
    /// # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    /// # let terminated = async {};
    /// let auth = Authenticator::builder(TokenReviewVerifier::new(api)).audience("orders").build()?;
    /// let app = Router::new().route("/", get(async || "hello")).layer(auth.layer());
    /// axum::serve(listener, app).with_graceful_shutdown(terminated).await?;
    /// auth.shutdown(Duration::from_secs(5)).await;
    /// # Ok(()) }
    /// ```
    pub async fn shutdown(&self, limit: Duration) {
        self.cache.shut_down(limit).await;
        self.cache.loader().verifier.stop_background_tasks();
    }

    /// Returns the accepted audiences.
    #[must_use]
    pub fn audiences(&self) -> &Audiences {
        &self.cache.loader().audiences
    }

    /// Returns a snapshot of the counters and gauges.
    #[must_use]
    pub fn metrics(&self) -> AuthenticatorMetrics {
        let rejected_by_precheck = self.cache.loader().rejected_by_precheck.get();
        AuthenticatorMetrics {
            rejected_by_precheck,
            let_through: self.shared.let_through.get(),
            ..AuthenticatorMetrics::from(&self.cache.metrics())
        }
    }

    #[inline]
    pub(crate) fn digest(&self, token: PresentedToken<'_>) -> Digest {
        self.cache.digest(token.expose_secret())
    }

    /// Returns the identity of a cached acceptance. If most of its lifetime has passed, starts a
    /// new verification in the background, so that regular callers never wait.
    #[inline]
    pub(crate) fn cached(
        &self,
        token: PresentedToken<'_>,
        digest: &Digest,
    ) -> Option<ServiceAccountIdentity> {
        let hit = self.cache.accepted(digest, || Some(token.parse().ok()?.to_owned()))?;
        self.shared.hits.increment();
        if hit.is_touch_due {
            self.shared.hits.publish_if_due(self.cache.clock());
        }
        Some(hit.identity)
    }

    /// Decides about a token that is not [`cached`](Self::cached): at once if a cached decision,
    /// the pre-check or a synchronous verification is enough. Anything that waits runs in a task.
    pub(crate) fn lookup(&self, token: BearerToken<'_>, digest: Digest) -> Lookup {
        let known = self.cache.rejected_or_stale(&digest, || Some(token.to_owned()));
        if let Some(verdict) = known {
            telemetry::token_cache(CacheStatus::Hit);
            return Lookup::Decided(Ok(verdict));
        }
        telemetry::token_cache(CacheStatus::Miss);
        self.shared.hits.publish_if_due(self.cache.clock());
        if let Err(error) = self.cache.ensure_open() {
            return Lookup::Decided(Err(error));
        }
        if let Some(outcome) = self.verify_now(token, digest) {
            return Lookup::Decided(outcome);
        }
        let TokenLoader { precheck, rejected_by_precheck, .. } = self.cache.loader();
        if let Err(reason) = precheck.check(token, self.cache.clock().wall()) {
            rejected_by_precheck.increment();
            return Lookup::Decided(Ok(Verdict::Reject(reason)));
        }
        self.cache.load(digest, || token.to_owned())
    }

    fn verify_now(&self, token: BearerToken<'_>, digest: Digest) -> Option<Outcome> {
        let TokenLoader { precheck, .. } = self.cache.loader();
        // The verifier checks the claims itself, but does not know the issuers configured here.
        if precheck.has_issuers() && precheck.check(token, self.cache.clock().wall()).is_err() {
            return None;
        }
        self.cache.decide_now(digest, |loader| loader.verify_now(token))
    }

    #[inline]
    pub(crate) fn max_token_length(&self) -> usize {
        self.shared.max_token_length
    }

    /// Returns whether `identity` was accepted by this authenticator or another handle of it, and
    /// has not expired since.
    pub(crate) fn has_accepted(&self, identity: &ServiceAccountIdentity) -> bool {
        let now = self.cache.clock().wall();
        identity.is_accepted_by(self.cache.loader().id)
            && identity.expires_at().is_none_or(|expiry| now < expiry)
    }

    /// Returns how many warnings of this kind were suppressed, or `None` if this one is to be too.
    pub(crate) fn admit_warning(&self, kind: &'static str) -> Option<u64> {
        self.shared.warn_limit.admit(kind, self.cache.clock().monotonic())
    }

    /// Counts a request that a report-only layer lets through. Returns as
    /// [`admit_warning`](Self::admit_warning) does, apart from the kinds of warnings.
    pub(crate) fn admit_report(&self, reason: &'static str) -> Option<u64> {
        self.shared.let_through.increment();
        self.shared.report_limit.admit(reason, self.cache.clock().monotonic())
    }

    pub(crate) fn realm(&self) -> &Arc<str> {
        &self.shared.realm
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").field("audiences", self.audiences()).finish_non_exhaustive()
    }
}
