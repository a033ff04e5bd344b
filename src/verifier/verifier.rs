//! The contract of verifiers.

use std::{
    future::{Future, ready},
    sync::Arc,
};

use crate::{
    audience::Audiences, error::VerifyError, readiness::Need, token::BearerToken, verdict::Verdict,
};

/// Decides whether a token is valid for one of the audiences, and whose it is.
///
/// Implement it with a plain `async fn`: wrap one of this crate's verifiers to add a condition, or
/// call another backend and state its answer with
/// [`Acceptance::builder`](crate::verdict::Acceptance::builder):
///
/// ```
/// use tower_kube_auth::{
///     BearerToken, Verifier,
///     audience::Audiences,
///     error::VerifyError,
///     verdict::{RejectReason, Verdict},
/// };
///
/// /// Rejects ServiceAccounts of all namespaces but one.
/// struct OnlyFrom<V>(&'static str, V);
///
/// impl<V: Verifier> Verifier for OnlyFrom<V> {
///     async fn verify(
///         &self,
///         token: BearerToken<'_>,
///         audiences: &Audiences,
///     ) -> Result<Verdict, VerifyError> {
///         Ok(match self.1.verify(token, audiences).await? {
///             Verdict::Accept(accepted) if accepted.identity().namespace() != self.0 => {
///                 Verdict::Reject(RejectReason::Denied)
///             }
///             verdict => verdict,
///         })
///     }
/// }
/// ```
///
/// `Ok` is a decision and may be cached. `Err` is an infrastructure failure, is answered with 503
/// and is never cached. A verifier must not be lenient about audiences: the token must name at
/// least one of `audiences`.
///
/// An [`Authenticator`](crate::Authenticator) passes on what its pre-check lets through: token68
/// ([RFC 7235 §2.1]) of at most [`max_token_length`] bytes that is a JWT whose unverified `iss`,
/// `aud` and `exp` could be right. A verifier of other tokens says so by
/// [`accepts_opaque_tokens`](Self::accepts_opaque_tokens).
///
/// The future may be polled first by the request's own task and then by another, and it may be
/// dropped at any `await`.
///
/// [RFC 7235 §2.1]: https://www.rfc-editor.org/rfc/rfc7235#section-2.1
/// [`max_token_length`]: crate::authenticator::AuthenticatorBuilder::max_token_length
///
/// [`VerifierExt`](crate::VerifierExt) combines verifiers, and [`DynVerifier`](crate::DynVerifier)
/// holds one whose type is chosen at run time.
pub trait Verifier: Send + Sync + 'static {
    /// Decides about `token`.
    ///
    /// # Errors
    ///
    /// [`VerifyError`] if no decision could be reached; never for a fault of the token.
    fn verify(
        &self,
        token: BearerToken<'_>,
        audiences: &Audiences,
    ) -> impl Future<Output = Result<Verdict, VerifyError>> + Send;

    /// Verifies synchronously if no I/O is needed. Called before the limits, the coalescing and the
    /// task spawn. `None`, the default, leaves the token to [`verify`](Self::verify).
    ///
    /// A verdict must equal the one that `verify` would return: a verifier that wraps another one
    /// and changes its verdicts keeps the default, or changes these verdicts too.
    fn verify_now(&self, token: BearerToken<'_>, audiences: &Audiences) -> Option<Verdict> {
        let _ = (token, audiences);
        None
    }

    /// Decides about a token that gets no place among the verifications under way within
    /// [`max_wait`]; `None` is [`Saturated`]. Defaults to [`verify_now`](Self::verify_now). It may
    /// wait a little, as a [`Fallback`](super::Fallback) does until it knows whether its verifier is
    /// unavailable, but must not call a backend: these are the callers beyond the limit. A verifier
    /// that wraps another one and changes its verdicts keeps the default.
    ///
    /// [`max_wait`]: crate::authenticator::AuthenticatorBuilder::max_wait
    /// [`Saturated`]: crate::error::VerifyErrorKind::Saturated
    fn verify_when_saturated(
        &self,
        token: BearerToken<'_>,
        audiences: &Audiences,
    ) -> impl Future<Output = Option<Verdict>> + Send {
        async move { self.verify_now(token, audiences) }
    }

    /// Begins in the background to load what verification needs, such as keys, unless that is
    /// loaded, and returns at once. A [`Fallback`](super::Fallback) calls it while its verifier
    /// still works. Defaults to nothing. A verifier that wraps another one forwards it.
    fn warm_up(&self) {}

    /// Ends background tasks, such as the refresh of keys, without waiting.
    /// [`Authenticator::shutdown`](crate::Authenticator::shutdown) calls it. Defaults to nothing. A
    /// verifier that wraps another one forwards it.
    ///
    /// A later verification, by another authenticator with the same verifier, may start them again.
    fn stop_background_tasks(&self) {}

    /// Returns whether this verifier decides about tokens that are no JWTs. Defaults to `false`,
    /// which rejects them before a verifier is asked: nobody can make a flood of calls out of
    /// noise. With `true`, each distinct text costs a verification. A verifier that wraps another
    /// one forwards it.
    fn accepts_opaque_tokens(&self) -> bool {
        false
    }

    /// Returns whether [`verify`](Self::verify) can tell tokens for the API server from others,
    /// that is, whether it handles [`Audiences::api_server`]. Defaults to `false`, which makes
    /// [`api_server_audience`] a build error. A verifier that wraps another one forwards it.
    ///
    /// [`api_server_audience`]: crate::authenticator::AuthenticatorBuilder::api_server_audience
    fn supports_api_server_audience(&self) -> bool {
        false
    }

    /// Checks what this verifier needs: a right, a reachable server, loaded keys. Defaults to no
    /// needs. A verifier that wraps another one forwards it.
    ///
    /// It may do I/O, within a time limit. The text of a need must not contain a token.
    fn check_needs(&self) -> impl Future<Output = Vec<Need>> + Send {
        ready(Vec::new())
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

    fn warm_up(&self) {
        V::warm_up(self);
    }

    fn stop_background_tasks(&self) {
        V::stop_background_tasks(self);
    }

    fn accepts_opaque_tokens(&self) -> bool {
        V::accepts_opaque_tokens(self)
    }

    fn supports_api_server_audience(&self) -> bool {
        V::supports_api_server_audience(self)
    }

    fn check_needs(&self) -> impl Future<Output = Vec<Need>> + Send {
        V::check_needs(self)
    }
}
