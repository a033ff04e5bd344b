//! Invalidation of cached decisions.

use super::authenticator::Authenticator;
use crate::{cache::Invalidation, token::BearerToken};

/// # Invalidation
///
/// For services that learn of a revocation before the TTL ends, from a watch on Pods and
/// ServiceAccounts for example. Cached decisions are dropped, so the next request is verified anew.
/// A verification that began before the invalidation is not cached, and no later request waits for
/// it.
///
/// The verifier decides anew, by what it can see: `JwksVerifier` alone accepts the token of a
/// deleted Pod until it expires. API servers cache TokenReviews for 10 s themselves, so what is
/// accepted within 11 s after an invalidation is cached only until these 11 s have passed.
///
/// The cost: one pass over the cache, and a second verification of tokens that are being verified.
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_kube_auth::{Authenticator, BearerToken, TokenReviewVerifier, Verdict, testing};
///
/// let cluster = testing::Cluster::start().await?;
/// cluster.create_service_account("shop", "checkout");
/// let pod_uid = cluster.create_pod("shop", "checkout-7d9f", "checkout");
/// let token = cluster.token("shop", "checkout").audience("orders");
/// let token = token.bound_to_pod("checkout-7d9f").issue()?;
///
/// let verifier = TokenReviewVerifier::new(cluster.kube_client()?);
/// let auth = Authenticator::builder(verifier).audience("orders").build()?;
/// let token = BearerToken::parse(&token)?;
/// assert!(matches!(auth.authenticate(token).await?, Verdict::Accept(_)));
///
/// cluster.delete_pod("shop", "checkout-7d9f");
/// assert!(matches!(auth.authenticate(token).await?, Verdict::Accept(_)), "from the cache");
/// auth.invalidate_pod(&pod_uid);
/// assert!(matches!(auth.authenticate(token).await?, Verdict::Reject(_)));
/// # Ok(()) }
/// ```
impl Authenticator {
    /// Drops the cached decision about `token`, including a rejection.
    pub fn invalidate(&self, token: BearerToken<'_>) {
        self.cache.invalidate(&Invalidation::Key(self.digest(token.into())));
    }

    /// Drops all accepted tokens of the ServiceAccount with this uid (`metadata.uid`).
    pub fn invalidate_service_account(&self, uid: &str) {
        self.cache.invalidate(&Invalidation::ServiceAccount(uid.into()));
    }

    /// Drops all accepted tokens bound to the Pod with this uid (`metadata.uid`).
    pub fn invalidate_pod(&self, uid: &str) {
        self.cache.invalidate(&Invalidation::Pod(uid.into()));
    }

    /// Drops all decisions.
    pub fn invalidate_all(&self) {
        self.cache.invalidate(&Invalidation::All);
    }
}
