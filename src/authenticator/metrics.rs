//! What an authenticator has done so far, in numbers.

use super::{Authenticator, Outcome};
use crate::{counters::Counter, verdict::Verdict};

/// A snapshot of an [`Authenticator`]'s counters, for whatever system you collect metrics with. All of them begin at zero and
/// only grow, but for the last four, which are gauges.
///
/// Hits are not among them: a counter that all threads write to costs more than the rest of a hit. They are what the requests that
/// you count already exceed these by.
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_kube_auth::{Authenticator, BearerToken, TokenReviewVerifier, testing};
///
/// let cluster = testing::Cluster::start().await?;
/// cluster.create_service_account("shop", "checkout");
/// let token = cluster.token("shop", "checkout").audience("orders").issue()?;
///
/// let auth = Authenticator::builder(TokenReviewVerifier::new(cluster.kube_client()?)).audience("orders").build()?;
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
    /// Verifications that accepted a token, those ahead of time included.
    pub accepted: u64,
    /// Verifications that refused one.
    pub rejected: u64,
    /// Verifications that came to no decision.
    pub undecided: u64,
    /// Of the undecided ones, those that found `max_in_flight` others under way, and no place to wait or none in time.
    pub saturated: u64,
    /// Tokens that were refused by looking, without a verification: no JWT, another issuer or audience, long expired.
    pub refused_unverified: u64,
    /// Refusals that were served from the cache.
    pub rejected_from_cache: u64,
    /// Requests that waited for a verification which another one had begun.
    pub followed: u64,
    /// Verifications that were begun ahead of time, in the background.
    pub refreshed_ahead: u64,
    /// Decisions to serve an accepted token past its time, because the verifier failed; see
    /// [`serve_stale`](super::AuthenticatorBuilder::serve_stale).
    pub served_stale: u64,
    /// Verifications under way now.
    pub in_flight: u64,
    /// Verifications that wait for their turn now.
    pub waiting: u64,
    /// Accepted tokens in the cache now, those included whose time is over but whose room is not needed yet.
    pub accepted_entries: u64,
    /// Refused tokens in the cache now, about.
    pub rejected_entries: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    accepted: Counter,
    rejected: Counter,
    undecided: Counter,
    pub(super) saturated: Counter,
    pub(super) refused_unverified: Counter,
    pub(super) rejected_from_cache: Counter,
    pub(super) followed: Counter,
    pub(super) refreshed_ahead: Counter,
    pub(super) served_stale: Counter,
}

impl Counters {
    pub(super) fn count(&self, outcome: &Outcome) {
        match outcome {
            Ok(Verdict::Accept(_)) => self.accepted.increment(),
            Ok(Verdict::Reject(_)) => self.rejected.increment(),
            Err(_) => self.undecided.increment(),
        }
    }
}

impl Authenticator {
    /// What it has done so far, and what is under way.
    #[must_use]
    pub fn metrics(&self) -> AuthenticatorMetrics {
        let backend = &self.shared.backend;
        let counters = &backend.counters;
        let (accepted_entries, rejected_entries) = self.shared.cache.len();
        AuthenticatorMetrics {
            accepted: counters.accepted.get(),
            rejected: counters.rejected.get(),
            undecided: counters.undecided.get(),
            saturated: counters.saturated.get(),
            refused_unverified: counters.refused_unverified.get(),
            rejected_from_cache: counters.rejected_from_cache.get(),
            followed: counters.followed.get(),
            refreshed_ahead: counters.refreshed_ahead.get(),
            served_stale: counters.served_stale.get(),
            in_flight: backend.limit.in_flight() as u64,
            waiting: backend.limit.waiting() as u64,
            accepted_entries,
            rejected_entries,
        }
    }
}
