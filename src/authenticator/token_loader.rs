//! What an authenticator's cache asks about a token: the pre-check and the verifier.

use super::precheck::Precheck;
use crate::{
    audience::Audiences,
    cache::Load,
    counters::Counter,
    identity::AuthenticatorId,
    telemetry::Stage,
    token::{BearerToken, OwnedBearerToken},
    verdict::Outcome,
    verifier::{DynVerifier, Verifier},
};

pub(super) struct TokenLoader {
    pub(super) verifier: DynVerifier,
    pub(super) audiences: Audiences,
    pub(super) precheck: Precheck,
    pub(super) rejected_by_precheck: Counter,
    pub(super) id: AuthenticatorId,
}

impl TokenLoader {
    pub(super) fn verify_now(&self, token: BearerToken<'_>) -> Option<Outcome> {
        let verdict = self.verifier.verify_now(token, &self.audiences)?;
        Some(Ok(verdict.accepted_by(self.id)))
    }
}

impl Load for TokenLoader {
    type Input = OwnedBearerToken;

    const NAME: &'static str = "the verifier";
    const STAGE: Stage = Stage::Authentication;

    async fn load(&self, token: &OwnedBearerToken) -> Outcome {
        let verdict = self.verifier.verify(token.borrow(), &self.audiences).await?;
        Ok(verdict.accepted_by(self.id))
    }

    fn load_now(&self, token: &OwnedBearerToken) -> Option<Outcome> {
        self.verify_now(token.borrow())
    }

    async fn load_when_saturated(&self, token: &OwnedBearerToken) -> Option<Outcome> {
        let verdict = self.verifier.verify_when_saturated(token.borrow(), &self.audiences).await?;
        Some(Ok(verdict.accepted_by(self.id)))
    }
}
