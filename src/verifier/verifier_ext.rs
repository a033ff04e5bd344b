//! The combinations of two verifiers, as methods of every verifier.

use super::{chain::Chain, fallback::Fallback, screened::Screened, verifier::Verifier};

/// Combines a [`Verifier`] with another one. Every verifier has these methods.
///
/// To combine both: `review.screened_by(jwks.clone()).or_when_unavailable(jwks)`.
pub trait VerifierExt: Verifier + Sized {
    /// Puts a `screen` before this verifier: a token that the screen rejects is rejected without a
    /// call of this verifier. This verifier decides about what the screen accepts; an identity
    /// never comes from the screen.
    ///
    /// Meant for [`TokenReviewVerifier`](crate::TokenReviewVerifier) behind
    /// [`JwksVerifier`](crate::JwksVerifier): junk costs a signature check instead of an API call,
    /// and deletions are seen as without the screen. This verifier decides what the screen cannot
    /// decide, so this much junk can reach the API server:
    ///
    /// - While the screen fails, because the keys cannot be loaded: all of it, as without a screen.
    /// - While the screen works, of the tokens that are
    ///   [`Inconclusive`](crate::error::VerifyErrorKind::Inconclusive) to it: at most 64 in any 10
    ///   s. The key id of these tokens is unknown and may be that of a new key; the rest of their
    ///   claims is as it should be. Above the limit, the screen's error is returned (503, with its
    ///   `Retry-After`), for valid tokens of a new key too, until the keys may be fetched again.
    ///   Tokens of known keys are not counted and not limited.
    ///
    /// A rejection by the screen is final, even if the API server would accept the token. With
    /// `JwksVerifier`, these are tokens of keys that are hidden from discovery (external signers),
    /// of issuers that it is not configured with, and the legacy tokens of Secrets, unless it is
    /// configured to accept those.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tower_kube_auth::{
    ///     Authenticator, BearerToken, JwksVerifier, TokenReviewVerifier, VerifierExt,
    ///     testing::{Cluster, Endpoint},
    /// };
    ///
    /// let cluster = Cluster::start().await?;
    /// cluster.create_service_account("shop", "checkout");
    /// let token = cluster.token("shop", "checkout").audience("orders").issue()?;
    ///
    /// let client = cluster.kube_client()?;
    /// let jwks = JwksVerifier::in_cluster(client.clone()).build()?;
    /// let verifier = TokenReviewVerifier::new(client).screened_by(jwks);
    /// let auth = Authenticator::builder(verifier).audience("orders").build()?;
    ///
    /// let forged = format!("{}c2lnbmF0dXJl", &token[..=token.rfind('.').unwrap()]);
    /// auth.authenticate(BearerToken::parse(&forged)?).await?;
    /// assert_eq!(cluster.calls(Endpoint::TokenReview), 0);
    /// auth.authenticate(BearerToken::parse(&token)?).await?;
    /// assert_eq!(cluster.calls(Endpoint::TokenReview), 1);
    /// # Ok(()) }
    /// ```
    fn screened_by<S>(self, screen: S) -> Screened<Self, S>
    where
        S: Verifier,
    {
        Screened::new(self, screen)
    }

    /// Lets `fallback` decide while this verifier is unavailable: it could not be reached, did not
    /// answer in time, or answered 429.
    ///
    /// Other errors do not count. With missing RBAC rights, for example, all tokens stay undecided
    /// (503), so that a mistake in the configuration does not mean offline verification for ever.
    /// An [`Inconclusive`](crate::error::VerifyErrorKind::Inconclusive) error concerns one token
    /// and is no outage for the others.
    ///
    /// Meant for [`TokenReviewVerifier`](crate::TokenReviewVerifier) with
    /// [`JwksVerifier`](crate::JwksVerifier). Its keys are loaded in the background from the first
    /// verification on; load them when the service starts
    /// ([`refresh`](crate::JwksVerifier::refresh)), if it may start during an outage of the API
    /// server.
    ///
    /// - An acceptance by the fallback is marked:
    ///   [`is_from_fallback`](crate::ServiceAccountIdentity::is_from_fallback). A deletion may be
    ///   unseen. The acceptance is cached for at most 10 s, so that a revocation is seen that soon
    ///   after the outage, or earlier through `exp`.
    /// - A rejection by the fallback counts if it states a fact about the token, such as a bad
    ///   signature. Whether a key, an issuer or an algorithm is known depends on the fallback's
    ///   configuration, so in these cases this verifier's error is returned: an outage rejects
    ///   nobody. For the same reason the fallback needs at least this verifier's leeway.
    /// - An outage is *suspected* when a call about a token that the fallback accepts takes 1 s
    ///   ([`suspect_outage_after`](Fallback::suspect_outage_after)) and this verifier has decided
    ///   about nobody since the call began: the fallback decides, and the calls under way go on in
    ///   the background, with a new one each second. A decision about anybody ends the suspicion, so
    ///   a flood that this verifier still decides about never makes the fallback decide. Nor do calls
    ///   that are slow or fail about a stranger's token.
    /// - After a failure this verifier is not called for as long as its error asks, between 1 s and
    ///   30 s. Then one call probes it in the background, about a token that the fallback accepts. A
    ///   success ends the outage for all. If no such token comes for 30 s, the outage counts as
    ///   over. What nobody waits for ends after 30 s and is a failure; there are at most 64 of these.
    /// - A token that this verifier rejects although the fallback accepts it is not accepted by the
    ///   fallback again, until this verifier accepts it (the last 1 024 of them).
    /// - Tokens that the fallback cannot decide during an outage go to this verifier, at most four
    ///   at a time, because their key may be new. Above that limit the error of the outage is
    ///   returned, so that junk with made-up key ids does not occupy all verifications.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use tower_kube_auth::{
    ///     Authenticator, BearerToken, JwksVerifier, TokenReviewVerifier, VerifierExt,
    ///     testing::Cluster, verdict::Verdict,
    /// };
    ///
    /// let cluster = Cluster::start().await?;
    /// cluster.create_service_account("shop", "checkout");
    /// let token = cluster.token("shop", "checkout").audience("orders").issue()?;
    ///
    /// let client = cluster.kube_client()?;
    /// let jwks = JwksVerifier::in_cluster(client.clone()).build()?;
    /// jwks.refresh().await?;
    /// let review = TokenReviewVerifier::new(client).timeout(Duration::from_secs(1));
    /// let verifier = review.or_when_unavailable(jwks);
    /// let auth = Authenticator::builder(verifier).audience("orders").build()?;
    ///
    /// cluster.go_down().await?;
    /// let verdict = auth.authenticate(BearerToken::parse(&token)?).await?;
    /// assert!(matches!(verdict, Verdict::Accept(accepted) if accepted.identity().is_from_fallback()));
    /// # Ok(()) }
    /// ```
    fn or_when_unavailable<F>(self, fallback: F) -> Fallback<Self, F>
    where
        F: Verifier,
    {
        Fallback::new(self, fallback)
    }

    /// Lets `other` decide about the tokens that are
    /// [`Inconclusive`](crate::error::VerifyErrorKind::Inconclusive) to this verifier: it works,
    /// but cannot decide about this token. All other outcomes of this verifier are final.
    ///
    /// Meant for verifiers that decide almost everything without a call, with
    /// [`TokenReviewVerifier`](crate::TokenReviewVerifier) as `other`. `LocalReviewVerifier` cannot
    /// decide about a Pod that its watch has not seen yet, and [`JwksVerifier`] not about a token
    /// whose key may be newer than the loaded keys.
    ///
    /// - An acceptance by `other` is not marked and has the full TTL: `other` is no substitute.
    /// - Anybody can make up a token of an unknown key, and each distinct one costs a call of
    ///   `other`. Put a screen before it to limit that:
    ///   `jwks.clone().or_when_inconclusive(review.screened_by(jwks))`.
    /// - If `other` is unavailable (unreachable, no answer in time, 429), the token stays
    ///   inconclusive (503, with the `Retry-After` of `other`). Any other error of `other`, such as
    ///   a missing right, is returned as it is.
    ///
    /// The order of the combinators says what each sees:
    ///
    /// - `first.or_when_inconclusive(other).or_when_unavailable(fallback)`: the fallback decides
    ///   while `first` is unavailable. It never sees an outage of `other`, which would otherwise
    ///   take the decision from `first` about all tokens for the sake of one.
    /// - `first.or_when_inconclusive(other.or_when_unavailable(fallback))`: the fallback decides
    ///   while `other` is unavailable, about inconclusive tokens only.
    ///
    /// [`JwksVerifier`]: crate::JwksVerifier
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tower_kube_auth::{
    ///     Authenticator, BearerToken, JwksVerifier, TokenReviewVerifier, VerifierExt,
    ///     testing::{Cluster, Endpoint},
    /// };
    ///
    /// let cluster = Cluster::start().await?;
    /// cluster.create_service_account("shop", "checkout");
    ///
    /// let client = cluster.kube_client()?;
    /// let jwks = JwksVerifier::in_cluster(client.clone()).build()?;
    /// jwks.refresh().await?;
    /// let verifier = jwks.or_when_inconclusive(TokenReviewVerifier::new(client));
    /// let auth = Authenticator::builder(verifier).audience("orders").build()?;
    ///
    /// let token = cluster.token("shop", "checkout").audience("orders");
    /// auth.authenticate(BearerToken::parse(&token.issue()?)?).await?;
    /// assert_eq!(cluster.calls(Endpoint::TokenReview), 0);
    /// # Ok(()) }
    /// ```
    fn or_when_inconclusive<O>(self, other: O) -> Chain<Self, O>
    where
        O: Verifier,
    {
        Chain::new(self, other)
    }
}

impl<V: Verifier> VerifierExt for V {}
