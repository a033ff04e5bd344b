//! Who decides about a token: the [`Verifier`] trait, the two verifiers of this crate, and how two are combined.

mod dyn_verifier;
mod fallback;
#[cfg(feature = "jwks")]
pub mod jwks;
mod screened;
#[cfg(test)]
mod scripted;
pub mod token_review;

use std::{future::Future, sync::Arc};

pub(crate) use dyn_verifier::SharedVerifier;
pub use fallback::Fallback;
pub use screened::Screened;

use crate::{audience::Audiences, error::VerifyError, token::BearerToken, verdict::Verdict};

/// Decides whether a token is good for one of the audiences, and whose it is.
///
/// Implement it with a plain `async fn`; wrap one of this crate's verifiers to add a condition, or talk to a backend of
/// your own and state its answer with [`Acceptance::builder`](crate::verdict::Acceptance::builder):
///
/// ```
/// use tower_kube_auth::{
///     BearerToken, Verifier, audience::Audiences, error::VerifyError, verdict::{RejectReason, Verdict},
/// };
///
/// /// Lets only ServiceAccounts of one namespace through.
/// struct OnlyFrom<V>(&'static str, V);
///
/// impl<V: Verifier> Verifier for OnlyFrom<V> {
///     async fn verify(&self, token: BearerToken<'_>, audiences: &Audiences) -> Result<Verdict, VerifyError> {
///         Ok(match self.1.verify(token, audiences).await? {
///             Verdict::Accept(accepted) if accepted.identity().namespace() != self.0 => Verdict::Reject(RejectReason::Denied),
///             verdict => verdict,
///         })
///     }
/// }
/// ```
///
/// `Ok` is a decision and may be cached; `Err` is trouble on this side, is answered with 503 and is never cached. A verifier
/// must not be lenient about audiences: the token must name at least one of `audiences`.
///
/// The future may be polled first by the request's own task and then by another, and it may be dropped at any `await`.
pub trait Verifier: Send + Sync + 'static {
    /// Decides about `token`.
    ///
    /// # Errors
    ///
    /// [`VerifyError`] if no decision could be reached; never for anything that is the token's fault.
    fn verify(
        &self,
        token: BearerToken<'_>,
        audiences: &Audiences,
    ) -> impl Future<Output = Result<Verdict, VerifyError>> + Send;

    /// Decides about `token` now, if computing is all that takes. It is asked first, and spares a new caller what is there for
    /// the sake of waiting. `None`, the default, leaves the token to [`verify`](Self::verify).
    ///
    /// What is returned here must be what `verify` would return: a verifier that wraps another one and changes its verdicts
    /// keeps the default, or changes these verdicts too.
    fn verify_now(&self, token: BearerToken<'_>, audiences: &Audiences) -> Option<Verdict> {
        let _ = (token, audiences);
        None
    }

    /// Puts a `screen` before this verifier: a token that it refuses is refused, and this verifier is not asked. What it
    /// accepts this verifier decides; an identity is never the screen's.
    ///
    /// It is for [`TokenReviewVerifier`](crate::TokenReviewVerifier) behind [`JwksVerifier`](crate::JwksVerifier): junk costs
    /// a little computing, while deletions are seen as without the screen. What the screen cannot decide, this verifier decides,
    /// so that this much junk can reach the API server:
    ///
    /// - While the screen is out of order, which means that the keys cannot be had, all of it, as without a screen.
    /// - While it works, what it cannot tell about
    ///   ([`Inconclusive`](crate::error::VerifyErrorKind::Inconclusive)): at most 64 tokens in any 10 s. These are tokens whose
    ///   key id is unknown, and may be that of a new key, though the rest of their claims is as it should be. Beyond that number
    ///   the screen's error stands (503, with its `Retry-After`), for good tokens of a new key too, until the keys may be fetched
    ///   again. Tokens of known keys do not count, and are decided as ever.
    ///
    /// The price: what the screen's rules refuse is refused, though the API server might know better. With `JwksVerifier` these
    /// are tokens of keys that are hidden from discovery (external signers), of issuers that it was not told of, and the legacy
    /// tokens of Secrets, unless it accepts those.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tower_kube_auth::{
    ///     Authenticator, BearerToken, JwksVerifier, TokenReviewVerifier, Verifier,
    ///     testing::{Cluster, Endpoint},
    /// };
    ///
    /// let cluster = Cluster::start().await?;
    /// cluster.create_service_account("shop", "checkout");
    /// let token = cluster.token("shop", "checkout").audience("orders").issue()?;
    ///
    /// let client = cluster.kube_client()?;
    /// let verifier = TokenReviewVerifier::new(client.clone()).screened_by(JwksVerifier::in_cluster(client).build()?);
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
        Self: Sized,
        S: Verifier,
    {
        Screened::new(self, screen)
    }

    /// Lets `fallback` decide while this verifier is unavailable: it could not be reached, did not answer in time, or asked for
    /// a pause. Nothing else counts. If our own rights are missing, say, all tokens stay undecided (503), so that a mistake in the
    /// configuration does not mean working offline for good; and what this verifier cannot tell about one token
    /// ([`Inconclusive`](crate::error::VerifyErrorKind::Inconclusive)) is no outage for the others.
    ///
    /// It is for [`TokenReviewVerifier`](crate::TokenReviewVerifier) with [`JwksVerifier`](crate::JwksVerifier), whose keys are
    /// best loaded when the service starts ([`refresh`](crate::JwksVerifier::refresh)): during an outage of the API server they
    /// cannot be had.
    ///
    /// - An acceptance by the fallback is marked:
    ///   [`is_from_fallback`](crate::ServiceAccountIdentity::is_from_fallback). A deletion may have been missed. It is kept for
    ///   at most 10 s, so that a revocation is seen that soon after the outage, if not by then through `exp`.
    /// - A refusal by the fallback counts where it states a fact about the token, such as a bad signature. Whether a key, an
    ///   issuer or an algorithm is known depends on what the fallback was told, so there this verifier's error stands: an outage
    ///   refuses nobody. For the same reason the fallback needs the same leeway as this verifier, or more.
    /// - This verifier needs a time limit of its own, below the authenticator's
    ///   [`verification_timeout`](crate::authenticator::AuthenticatorBuilder::verification_timeout), which ends the fallback too.
    ///   `TokenReviewVerifier` has one.
    /// - After a failure this verifier is left alone for as long as its error asks, between 1 s and 30 s, so that not every caller
    ///   waits for its time limit. Then one caller tries it, while the others go on with the fallback. A success ends the outage
    ///   for all.
    /// - What the fallback cannot decide meanwhile this verifier is asked all the same, for at most four at a time: the key may
    ///   be a new one. The others get the error of the outage, so that junk with made-up key ids does not take all places.
    ///
    /// Combine both with [`screened_by`](Self::screened_by): `review.screened_by(jwks.clone()).or_when_unavailable(jwks)`.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use tower_kube_auth::{
    ///     Authenticator, BearerToken, JwksVerifier, TokenReviewVerifier, Verifier,
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
        Self: Sized,
        F: Verifier,
    {
        Fallback::new(self, fallback)
    }
}

impl<V: Verifier> Verifier for Arc<V> {
    async fn verify(
        &self,
        token: BearerToken<'_>,
        audiences: &Audiences,
    ) -> Result<Verdict, VerifyError> {
        V::verify(self, token, audiences).await
    }

    fn verify_now(&self, token: BearerToken<'_>, audiences: &Audiences) -> Option<Verdict> {
        V::verify_now(self, token, audiences)
    }
}
