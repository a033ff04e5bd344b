//! One verifier before another: what the first refuses, the second is not asked about.

use super::Verifier;
use crate::{audience::Audiences, error::VerifyError, token::BearerToken, verdict::Verdict};

/// A verifier behind a screen. See [`Verifier::screened_by`].
#[derive(Clone, Debug)]
pub struct Screened<V, S> {
    verifier: V,
    screen: S,
}

impl<V, S> Screened<V, S> {
    pub(super) fn new(verifier: V, screen: S) -> Self {
        Self { verifier, screen }
    }
}

impl<V: Verifier, S: Verifier> Verifier for Screened<V, S> {
    async fn verify(&self, token: BearerToken<'_>, audiences: &Audiences) -> Result<Verdict, VerifyError> {
        match self.screen.verify(token, audiences).await {
            Ok(Verdict::Reject(reason)) => return Ok(Verdict::Reject(reason)),
            Ok(Verdict::Accept(_)) => {}
            Err(error) => tracing::debug!(%error, "the screen cannot decide"),
        }
        self.verifier.verify(token, audiences).await
    }

    /// A refusal only: what the screen accepts is for the verifier to decide, which takes waiting.
    fn verify_now(&self, token: BearerToken<'_>, audiences: &Audiences) -> Option<Verdict> {
        self.screen.verify_now(token, audiences).filter(|verdict| matches!(verdict, Verdict::Reject(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        error::VerifyErrorKind,
        verdict::Reason,
        verifier::scripted::{Scripted, accept, audiences, token},
    };

    async fn verify(verifier: &impl Verifier) -> Result<Verdict, VerifyErrorKind> {
        verifier.verify(token(), &audiences()).await.map_err(|error| error.kind())
    }

    #[tokio::test]
    async fn what_the_screen_refuses_is_refused_and_the_verifier_is_not_asked() {
        let (verifier, screen) = (Scripted::accepting("verifier"), Scripted::rejecting(Reason::Signature));
        let screened = verifier.clone().screened_by(screen);
        assert_eq!(verify(&screened).await, Ok(Verdict::Reject(Reason::Signature)));
        assert_eq!(verifier.calls(), 0);
    }

    #[tokio::test]
    async fn what_the_screen_accepts_the_verifier_decides_and_the_identity_is_the_verifiers() {
        let screen = Scripted::accepting("screen");
        for (verifier, expected) in [
            (Scripted::accepting("verifier"), Ok(accept("verifier"))),
            (Scripted::rejecting(Reason::Unauthenticated), Ok(Verdict::Reject(Reason::Unauthenticated))),
            (Scripted::failing(VerifyErrorKind::Unavailable), Err(VerifyErrorKind::Unavailable)),
        ] {
            assert_eq!(verify(&verifier.screened_by(screen.clone())).await, expected);
        }
    }

    #[tokio::test]
    async fn what_the_screen_cannot_decide_the_verifier_decides() {
        for kind in [VerifyErrorKind::Unavailable, VerifyErrorKind::RateLimited, VerifyErrorKind::Forbidden] {
            for verdict in [accept("verifier"), Verdict::Reject(Reason::Unauthenticated)] {
                let verifier = Scripted::new(Ok(verdict.clone()));
                assert_eq!(verify(&verifier.screened_by(Scripted::failing(kind))).await, Ok(verdict));
            }
        }
    }

    #[tokio::test]
    async fn by_computing_there_are_refusals_of_the_screen_only() {
        let refusal = Some(Verdict::Reject(Reason::Signature));
        for (now, expected) in [(refusal.clone(), refusal), (Some(accept("screen")), None), (None, None)] {
            let verifier = Scripted::accepting("verifier").computing(Some(accept("verifier")));
            let screen = Scripted::accepting("screen").computing(now);
            assert_eq!(verifier.clone().screened_by(screen).verify_now(token(), &audiences()), expected);
            assert_eq!(verifier.calls(), 0);
        }
    }
}
