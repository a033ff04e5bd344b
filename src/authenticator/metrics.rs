//! Counters and gauges of an authenticator.

use crate::cache::CacheMetrics;

/// A snapshot of an [`Authenticator`](super::Authenticator)'s counters and gauges, for any metrics
/// system. The last four fields are gauges; the others start at zero and only grow.
///
/// Cache hits are not counted: a counter that all threads write to costs more than the rest of a
/// hit. The feature `metrics` counts them. Or subtract these from the service's own request count.
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_kube_auth::{Authenticator, BearerToken, TokenReviewVerifier, testing};
///
/// let cluster = testing::Cluster::start().await?;
/// cluster.create_service_account("shop", "checkout");
/// let token = cluster.token("shop", "checkout").audience("orders").issue()?;
///
/// let verifier = TokenReviewVerifier::new(cluster.kube_client()?);
/// let auth = Authenticator::builder(verifier).audience("orders").build()?;
/// for _ in 0..3 {
///     auth.authenticate(BearerToken::parse(&token)?).await?;
/// }
/// assert_eq!(auth.metrics().accepted, 1);
/// assert_eq!(auth.metrics().accepted_entries, 1);
/// assert_eq!(auth.metrics().in_flight, 0);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuthenticatorMetrics {
    /// Verifications that accepted a token, including background ones.
    pub accepted: u64,
    /// Verifications that rejected a token.
    pub rejected: u64,
    /// Verifications that reached no decision.
    pub undecided: u64,
    /// Undecided verifications that got no permit of `max_in_flight` in time, or no place in its
    /// queue.
    pub saturated: u64,
    /// Tokens that the pre-check rejected without a verification: not a JWT, of another issuer or
    /// audience, or expired for long.
    pub rejected_by_precheck: u64,
    /// Rejections served from the cache.
    pub rejected_from_cache: u64,
    /// Requests that joined a verification already in flight.
    pub coalesced: u64,
    /// Background verifications of tokens whose cache entry ends soon.
    pub refreshed_ahead: u64,
    /// Accepted tokens served past their TTL because the verifier failed; see
    /// [`serve_stale`](super::AuthenticatorBuilder::serve_stale).
    pub served_stale: u64,
    /// Requests that a layer would have rejected without [`dangerous_report_only`].
    ///
    /// [`dangerous_report_only`]: crate::server::AuthenticateLayer::dangerous_report_only
    pub let_through: u64,
    /// Verifications in flight.
    pub in_flight: u64,
    /// Verifications waiting for a permit.
    pub waiting: u64,
    /// Accepted tokens in the cache, including expired ones that are not evicted yet.
    pub accepted_entries: u64,
    /// Rejected tokens in the cache, approximately.
    pub rejected_entries: u64,
}

/// What the authenticator counts itself is left at zero.
impl From<&CacheMetrics> for AuthenticatorMetrics {
    fn from(cache: &CacheMetrics) -> Self {
        Self {
            accepted: cache.accepted,
            rejected: cache.rejected,
            undecided: cache.undecided,
            saturated: cache.saturated,
            rejected_from_cache: cache.rejected_from_cache,
            coalesced: cache.coalesced,
            refreshed_ahead: cache.refreshed_ahead,
            served_stale: cache.served_stale,
            in_flight: cache.in_flight,
            waiting: cache.waiting,
            accepted_entries: cache.accepted_entries,
            rejected_entries: cache.rejected_entries,
            ..Self::default()
        }
    }
}
