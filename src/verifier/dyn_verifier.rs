//! The object-safe form of [`Verifier`], so that the layer has no type parameter for it.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use super::Verifier;
use crate::{audience::Audiences, error::VerifyError, token::BearerToken, verdict::Verdict};

/// A verifier of any type, shared.
#[derive(Clone)]
pub(crate) struct SharedVerifier(Arc<dyn Erased>);

type Verification<'a> = Pin<Box<dyn Future<Output = Result<Verdict, VerifyError>> + Send + 'a>>;

trait Erased: Send + Sync {
    fn verify<'a>(&'a self, token: BearerToken<'a>, audiences: &'a Audiences) -> Verification<'a>;
    fn verify_now(&self, token: BearerToken<'_>, audiences: &Audiences) -> Option<Verdict>;
}

impl<V: Verifier> Erased for V {
    fn verify<'a>(&'a self, token: BearerToken<'a>, audiences: &'a Audiences) -> Verification<'a> {
        Box::pin(Verifier::verify(self, token, audiences))
    }

    fn verify_now(&self, token: BearerToken<'_>, audiences: &Audiences) -> Option<Verdict> {
        Verifier::verify_now(self, token, audiences)
    }
}

impl SharedVerifier {
    pub(crate) fn new(verifier: impl Verifier) -> Self {
        Self(Arc::new(verifier))
    }

    pub(crate) fn verify<'a>(
        &'a self,
        token: BearerToken<'a>,
        audiences: &'a Audiences,
    ) -> Verification<'a> {
        self.0.verify(token, audiences)
    }

    pub(crate) fn verify_now(
        &self,
        token: BearerToken<'_>,
        audiences: &Audiences,
    ) -> Option<Verdict> {
        self.0.verify_now(token, audiences)
    }
}

impl fmt::Debug for SharedVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedVerifier")
    }
}
