//! From a token to a decision: cache, pre-check, limits and single-flight around a verifier. Usable without Tower.

mod backend;
mod builder;
mod invalidate;
mod limit;
mod lookup;
mod metrics;
mod precheck;
mod tasks;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use backend::Backend;
pub use builder::{AuthenticatorBuildError, AuthenticatorBuilder};
pub(crate) use lookup::{Lookup, Outcome, Waiting};
pub use metrics::AuthenticatorMetrics;
use precheck::Precheck;
use tasks::Tasks;

pub(crate) use crate::cache::Digest;
use crate::{
    audience::Audiences,
    cache::{Flights, VerdictCache},
    error::VerifyError,
    token::{BearerToken, PresentedToken},
    verdict::{Acceptance, Verdict},
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
    cache: VerdictCache,
    flights: Arc<Flights<Outcome>>,
    precheck: Precheck,
    backend: Arc<Backend>,
    tasks: Tasks,
    max_token_length: usize,
    realm: Arc<str>,
}

impl Authenticator {
    /// Begins with `verifier`; an audience must follow before [`build`](AuthenticatorBuilder::build).
    pub fn builder(verifier: impl Verifier) -> AuthenticatorBuilder {
        AuthenticatorBuilder::new(SharedVerifier::new(verifier))
    }

    /// Decides about `token`: from the cache, or by the verifier.
    ///
    /// Dropping the future does not end a verification that others wait for too; dropping the last handle does. Must be called
    /// within a Tokio runtime with its timer enabled.
    ///
    /// # Errors
    ///
    /// [`VerifyError`] if no decision could be reached. It says nothing about the token, and is not cached.
    pub async fn authenticate(&self, token: BearerToken<'_>) -> Result<Verdict, VerifyError> {
        let digest = self.digest(token.into());
        if let Some(identity) = self.cached(token.into(), &digest) {
            return Ok(Verdict::Accept(Acceptance::new(identity)));
        }
        match self.lookup(token, digest) {
            Lookup::Decided(outcome) => outcome,
            Lookup::Waiting(waiting) => waiting.await,
        }
    }

    #[inline]
    pub(crate) fn digest(&self, token: PresentedToken<'_>) -> Digest {
        self.shared.cache.digest(token.expose_secret())
    }

    /// The audiences that are accepted.
    #[must_use]
    pub fn audiences(&self) -> &Audiences {
        &self.shared.backend.audiences
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
        f.debug_struct("Authenticator")
            .field("audiences", &self.shared.backend.audiences)
            .finish_non_exhaustive()
    }
}
