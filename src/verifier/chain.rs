//! A verifier with another one behind it for the tokens that it cannot decide about.

use super::{fallback::is_outage, verifier::Verifier};
use crate::{
    audience::Audiences,
    error::{VerifyError, VerifyErrorKind},
    readiness::Need,
    token::BearerToken,
    verdict::{RejectReason, Verdict},
};

/// A verifier, and another one that decides what the first cannot. See
/// [`VerifierExt::or_when_inconclusive`](crate::VerifierExt::or_when_inconclusive).
#[derive(Clone, Debug)]
pub struct Chain<V, O> {
    verifier: V,
    other: O,
}

impl<V, O> Chain<V, O> {
    pub(super) fn new(verifier: V, other: O) -> Self {
        Self { verifier, other }
    }
}

impl<V: Verifier, O: Verifier> Verifier for Chain<V, O> {
    async fn verify(
        &self,
        token: BearerToken<'_>,
        audiences: &Audiences,
    ) -> Result<Verdict, VerifyError> {
        let inconclusive = match self.verifier.verify(token, audiences).await {
            Err(error) if error.kind() == VerifyErrorKind::Inconclusive => error,
            outcome => return outcome,
        };
        tracing::debug!(error = %inconclusive, "the first verifier cannot decide");
        match self.other.verify(token, audiences).await {
            // That a token is no JWT is no fact about it if only the first takes opaque tokens.
            Ok(Verdict::Reject(RejectReason::Malformed))
                if self.verifier.accepts_opaque_tokens() && !self.other.accepts_opaque_tokens() =>
            {
                Err(inconclusive)
            }
            Err(error) if is_outage(error.kind()) => Err(still_inconclusive(error)),
            outcome => outcome,
        }
    }

    /// Returns what the first verifier computes. The other one decides only about tokens that are
    /// inconclusive, which `None` does not say.
    fn verify_now(&self, token: BearerToken<'_>, audiences: &Audiences) -> Option<Verdict> {
        self.verifier.verify_now(token, audiences)
    }

    async fn verify_when_saturated(
        &self,
        token: BearerToken<'_>,
        audiences: &Audiences,
    ) -> Option<Verdict> {
        self.verifier.verify_when_saturated(token, audiences).await
    }

    fn warm_up(&self) {
        self.verifier.warm_up();
        self.other.warm_up();
    }

    fn stop_background_tasks(&self) {
        self.verifier.stop_background_tasks();
        self.other.stop_background_tasks();
    }

    /// What the first verifier cannot read, it rejects.
    fn accepts_opaque_tokens(&self) -> bool {
        self.verifier.accepts_opaque_tokens()
    }

    fn supports_api_server_audience(&self) -> bool {
        self.verifier.supports_api_server_audience() && self.other.supports_api_server_audience()
    }

    /// The service answers without the other verifier, except about inconclusive tokens.
    async fn check_needs(&self) -> Vec<Need> {
        let mut needs = self.verifier.check_needs().await;
        needs.extend(self.other.check_needs().await.into_iter().map(Need::dispensable));
        needs
    }
}

/// Returns an outage of the other verifier as what it is to the chain: one token stays undecided.
/// The first verifier still decides about the others, so a [`Fallback`](super::Fallback) around the
/// chain must not take over from it.
fn still_inconclusive(outage: VerifyError) -> VerifyError {
    let message = format!("inconclusive, and the next verifier is unavailable: {outage}");
    let error = VerifyError::new(VerifyErrorKind::Inconclusive, message);
    let error = match outage.retry_after() {
        Some(pause) => error.with_retry_after(pause),
        None => error,
    };
    error.with_source(outage)
}

#[cfg(test)]
mod tests {
    use std::{error::Error, time::Duration};

    use super::*;
    use crate::verifier::{
        VerifierExt,
        fake_verifier::{FakeVerifier, accept, audiences, error, token},
    };

    const INCONCLUSIVE: VerifyErrorKind = VerifyErrorKind::Inconclusive;

    async fn verify(verifier: &impl Verifier) -> Result<Verdict, VerifyErrorKind> {
        verifier.verify(token(), &audiences()).await.map_err(|error| error.kind())
    }

    #[tokio::test]
    async fn the_other_verifier_is_asked_about_inconclusive_tokens_only() {
        let other = FakeVerifier::accepting("other");
        for outcome in [
            Ok(accept("first")),
            Ok(Verdict::Reject(RejectReason::UnknownKey)),
            Err(error(VerifyErrorKind::Unavailable)),
            Err(error(VerifyErrorKind::Forbidden)),
            Err(error(VerifyErrorKind::Saturated)),
        ] {
            let chain = FakeVerifier::new(outcome.clone()).or_when_inconclusive(other.clone());
            assert_eq!(verify(&chain).await, outcome.map_err(|error| error.kind()));
        }
        assert_eq!(other.calls(), 0);
        let undecided = FakeVerifier::failing(INCONCLUSIVE).or_when_inconclusive(other.clone());
        assert_eq!(verify(&undecided).await, Ok(accept("other")));
        other.set(Ok(Verdict::Reject(RejectReason::Unauthenticated)));
        assert_eq!(verify(&undecided).await, Ok(Verdict::Reject(RejectReason::Unauthenticated)));
        assert_eq!(other.calls(), 2);
    }

    #[tokio::test]
    async fn an_outage_of_the_other_verifier_leaves_one_token_inconclusive() {
        let other = FakeVerifier::accepting("other");
        let chain = FakeVerifier::failing(INCONCLUSIVE).or_when_inconclusive(other.clone());
        let pause = Duration::from_secs(7);
        for kind in
            [VerifyErrorKind::Unavailable, VerifyErrorKind::Timeout, VerifyErrorKind::RateLimited]
        {
            other.set(Err(error(kind).with_retry_after(pause)));
            let error = chain.verify(token(), &audiences()).await.unwrap_err();
            assert_eq!((error.kind(), error.retry_after()), (INCONCLUSIVE, Some(pause)));
            assert_eq!(error.source().unwrap().to_string(), kind.as_str());
        }
        // A missing right is reported as such, because nothing else tells the operator.
        other.set(Err(error(VerifyErrorKind::Forbidden)));
        assert_eq!(verify(&chain).await, Err(VerifyErrorKind::Forbidden));
    }

    #[tokio::test]
    async fn a_fallback_around_a_chain_sees_outages_of_the_first_verifier_only() {
        let (first, other) =
            (FakeVerifier::accepting("first"), FakeVerifier::failing(VerifyErrorKind::Unavailable));
        let fallback = FakeVerifier::accepting("fallback");
        let combined =
            first.clone().or_when_inconclusive(other.clone()).or_when_unavailable(fallback.clone());
        for _ in 0..3 {
            first.set(Err(error(INCONCLUSIVE)));
            assert_eq!(verify(&combined).await, Err(INCONCLUSIVE));
            first.set(Ok(accept("first")));
            assert_eq!(verify(&combined).await, Ok(accept("first")));
        }
        assert_eq!((other.calls(), fallback.calls()), (3, 0));
        first.set(Err(error(VerifyErrorKind::Unavailable)));
        assert!(matches!(
            verify(&combined).await,
            Ok(Verdict::Accept(accepted)) if accepted.identity().is_from_fallback()
        ));
        assert_eq!((other.calls(), fallback.calls()), (3, 1));
    }

    #[tokio::test]
    async fn a_fallback_inside_of_a_chain_decides_about_inconclusive_tokens_only() {
        let first = FakeVerifier::failing(INCONCLUSIVE);
        let review = FakeVerifier::failing(VerifyErrorKind::Unavailable);
        let combined = first
            .clone()
            .or_when_inconclusive(review.or_when_unavailable(FakeVerifier::accepting("fallback")));
        assert!(matches!(
            verify(&combined).await,
            Ok(Verdict::Accept(accepted)) if accepted.identity().is_from_fallback()
        ));
        first.set(Ok(Verdict::Reject(RejectReason::Unauthenticated)));
        assert_eq!(verify(&combined).await, Ok(Verdict::Reject(RejectReason::Unauthenticated)));
        first.set(Err(error(VerifyErrorKind::Unavailable)));
        assert_eq!(verify(&combined).await, Err(VerifyErrorKind::Unavailable));
    }

    #[tokio::test]
    async fn verify_now_is_the_first_verifiers() {
        let other = FakeVerifier::accepting("other").with_verify_now(Some(accept("other")));
        for now in [Some(accept("first")), Some(Verdict::Reject(RejectReason::Signature)), None] {
            let first = FakeVerifier::failing(INCONCLUSIVE).with_verify_now(now.clone());
            let chain = first.or_when_inconclusive(other.clone());
            assert_eq!(chain.verify_now(token(), &audiences()), now);
        }
        assert_eq!(other.calls(), 0);
    }

    /// Takes opaque tokens, and cannot decide about any.
    struct Opaque;

    impl Verifier for Opaque {
        async fn verify(&self, _: BearerToken<'_>, _: &Audiences) -> Result<Verdict, VerifyError> {
            Err(error(INCONCLUSIVE))
        }

        fn accepts_opaque_tokens(&self) -> bool {
            true
        }
    }

    #[tokio::test]
    async fn an_opaque_token_is_not_rejected_for_being_no_jwt() {
        let other = FakeVerifier::rejecting(RejectReason::Malformed);
        let chain = Opaque.or_when_inconclusive(other.clone());
        assert!(chain.accepts_opaque_tokens());
        assert_eq!(verify(&chain).await, Err(INCONCLUSIVE));
        assert!(!other.clone().or_when_inconclusive(Opaque).accepts_opaque_tokens());
        other.set(Ok(Verdict::Reject(RejectReason::Unauthenticated)));
        assert_eq!(verify(&chain).await, Ok(Verdict::Reject(RejectReason::Unauthenticated)));
    }

    #[test]
    fn both_verifiers_are_warmed_up() {
        let (first, other) = (FakeVerifier::accepting("first"), FakeVerifier::accepting("other"));
        first.clone().or_when_inconclusive(other.clone()).warm_up();
        assert_eq!((first.warm_ups(), other.warm_ups()), (1, 1));
    }
}
