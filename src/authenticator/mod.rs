//! From a token to a decision: cache, pre-check, limits and single-flight around a verifier. Usable without Tower.

mod builder;
mod limit;
mod lookup;
mod precheck;

use std::{fmt, sync::Arc, time::Duration};

pub use builder::{AuthenticatorBuilder, BuildError};
use limit::Limit;
pub(crate) use lookup::{Lookup, Outcome, Waiting};
use precheck::Precheck;

pub(crate) use crate::cache::Digest;
use crate::{
    audience::Audiences,
    cache::{Flights, VerdictCache},
    clock::Clock,
    error::VerifyError,
    identity::ServiceAccountIdentity,
    token::{BearerToken, PresentedToken},
    verdict::Verdict,
    verifier::{SharedVerifier, Verifier},
};

/// Authenticates bearer tokens: with a [`Verifier`], and around it a cache, a pre-check, a limit on what is under way, and
/// one verification for all who bring the same token at the same time.
///
/// Handles are cheap to clone and share one state; so do all layers made of them.
///
/// [`layer`](Self::layer) puts it in front of a Tower service. Without Tower:
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_kube_auth::{Authenticator, BearerToken, TokenReviewVerifier, testing, verdict::Verdict};
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
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    verifier: SharedVerifier,
    audiences: Audiences,
    precheck: Precheck,
    cache: VerdictCache,
    flights: Arc<Flights<Outcome>>,
    limit: Limit,
    verification_timeout: Duration,
    max_token_length: usize,
    realm: Arc<str>,
    clock: Clock,
}

impl Authenticator {
    /// Begins with `verifier`; an audience must follow before [`build`](AuthenticatorBuilder::build).
    pub fn builder(verifier: impl Verifier) -> AuthenticatorBuilder {
        AuthenticatorBuilder::new(SharedVerifier::new(verifier))
    }

    /// Decides about `token`: from the cache, or by the verifier.
    ///
    /// Dropping the future does not end a verification that others wait for too. Must be called within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// [`VerifyError`] if no decision could be reached. It says nothing about the token, and is not cached.
    pub async fn authenticate(&self, token: BearerToken<'_>) -> Result<Verdict, VerifyError> {
        match self.look_up(token, self.digest(token.into())) {
            Lookup::Decided(outcome) => outcome,
            Lookup::Waiting(waiting) => waiting.await,
        }
    }

    #[inline]
    pub(crate) fn digest(&self, token: PresentedToken<'_>) -> Digest {
        self.shared.cache.digest(token.expose_secret())
    }

    /// The identity that was accepted for the token of this digest before, if it is still in the cache.
    #[inline]
    pub(crate) fn cached(&self, digest: &Digest) -> Option<ServiceAccountIdentity> {
        self.shared.cache.accepted(digest)
    }

    /// The audiences that are accepted.
    #[must_use]
    pub fn audiences(&self) -> &Audiences {
        &self.shared.audiences
    }

    #[inline]
    pub(crate) fn max_token_length(&self) -> usize {
        self.shared.max_token_length
    }

    pub(crate) fn realm(&self) -> &Arc<str> {
        &self.shared.realm
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").field("audiences", &self.shared.audiences).finish_non_exhaustive()
    }
}
