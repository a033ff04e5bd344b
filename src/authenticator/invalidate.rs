//! Forgetting decisions before their time.

use super::Authenticator;
use crate::{cache::Invalidation, sync_point::sync_point, token::BearerToken};

/// # Invalidation
///
/// For whoever hears of a revocation before the cache's time is over, from a watch on Pods and ServiceAccounts for instance. What is
/// cached is forgotten, so that the next request is verified anew; a verification that had begun before is not kept, and no
/// later request waits for it.
///
/// The verifier decides again, and only what it sees counts: `JwksVerifier` alone accepts the token of a deleted Pod until it
/// expires. An API server itself answers TokenReviews from a cache of 10 s, so that what is accepted within 11 s after an
/// invalidation is kept only until these are over.
///
/// The costs: one look at each entry of the cache, and a second verification for tokens that are being verified right then.
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_kube_auth::{Authenticator, BearerToken, TokenReviewVerifier, testing, verdict::Verdict};
///
/// let cluster = testing::Cluster::start().await?;
/// cluster.create_service_account("shop", "checkout");
/// let pod_uid = cluster.create_pod("shop", "checkout-7d9f", "checkout");
/// let token = cluster.token("shop", "checkout").audience("orders").bound_to_pod("checkout-7d9f").issue()?;
///
/// let auth = Authenticator::builder(TokenReviewVerifier::new(cluster.kube_client()?)).audience("orders").build()?;
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
    /// Forgets what was decided about `token`, a refusal too.
    pub fn invalidate(&self, token: BearerToken<'_>) {
        let digest = self.digest(token.into());
        self.shared.cache.invalidate(&Invalidation::Token(digest));
        self.shared.flights.detach(&digest);
    }

    /// Forgets all accepted tokens of the ServiceAccount with this uid (`metadata.uid`).
    pub fn invalidate_service_account(&self, uid: &str) {
        self.apply(&Invalidation::ServiceAccount(uid.into()));
    }

    /// Forgets all accepted tokens that are bound to the Pod with this uid (`metadata.uid`).
    pub fn invalidate_pod(&self, uid: &str) {
        self.apply(&Invalidation::Pod(uid.into()));
    }

    /// Forgets every decision.
    pub fn invalidate_all(&self) {
        self.apply(&Invalidation::All);
    }

    /// Whose token a verification under way is about is not known, so that nobody may follow any of them.
    fn apply(&self, invalidation: &Invalidation) {
        self.shared.cache.invalidate(invalidation);
        sync_point();
        self.shared.flights.detach_all();
    }
}
