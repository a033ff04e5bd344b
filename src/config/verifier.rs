//! The verifier: who decides about tokens.

use serde::Deserialize;

use super::{
    error::AuthConfigError,
    jwks::JwksConfig,
    value::{DurationValue, apply},
};
use crate::{
    api_server::ApiServer,
    verifier::{DynVerifier, VerifierExt, jwks::JwksVerifier, token_review::TokenReviewVerifier},
};

/// Who decides about tokens. By default, the API server by TokenReview.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct VerifierConfig {
    /// The verifier.
    #[serde(default)]
    kind: VerifierKind,
    /// Rejects junk before the API server is asked. Only for the kind `token_review`.
    screened_by: Option<Helper>,
    /// Decides while the API server is unavailable. Only for the kind `token_review`.
    or_when_unavailable: Option<Helper>,
    /// The options of `token_review`.
    token_review: Option<TokenReviewConfig>,
    /// The options of `jwks`, in whichever of the three places it is named.
    jwks: Option<JwksConfig>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
enum VerifierKind {
    #[default]
    TokenReview,
    Jwks,
}

/// A verifier that helps `token_review`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
enum Helper {
    Jwks,
}

/// The options of a `TokenReviewVerifier`.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct TokenReviewConfig {
    /// The time limit of a review with all its attempts.
    timeout: Option<DurationValue>,
}

/// A verifier, and the part of it that has keys to load.
pub(super) struct BuiltVerifier {
    pub(super) verifier: DynVerifier,
    pub(super) jwks: Option<JwksVerifier>,
}

impl VerifierConfig {
    pub(super) fn build(&self, api_server: &ApiServer) -> Result<BuiltVerifier, AuthConfigError> {
        self.check_kind()?;
        let is_helped = self.screened_by.is_some() || self.or_when_unavailable.is_some();
        if self.kind == VerifierKind::TokenReview && !is_helped {
            let verifier = DynVerifier::new(self.token_review(api_server)?);
            return Ok(BuiltVerifier { verifier, jwks: None });
        }
        let jwks = self.jwks.clone().unwrap_or_default().build(api_server)?;
        let verifier = match (self.kind, self.screened_by, self.or_when_unavailable) {
            (VerifierKind::Jwks, ..) => DynVerifier::new(jwks.clone()),
            (VerifierKind::TokenReview, Some(Helper::Jwks), None) => {
                DynVerifier::new(self.token_review(api_server)?.screened_by(jwks.clone()))
            }
            (VerifierKind::TokenReview, None, _) => {
                DynVerifier::new(self.token_review(api_server)?.or_when_unavailable(jwks.clone()))
            }
            (VerifierKind::TokenReview, Some(Helper::Jwks), Some(Helper::Jwks)) => {
                let screened = self.token_review(api_server)?.screened_by(jwks.clone());
                DynVerifier::new(screened.or_when_unavailable(jwks.clone()))
            }
        };
        Ok(BuiltVerifier { verifier, jwks: Some(jwks) })
    }

    /// Rejects what has no effect, because somebody relies on it.
    fn check_kind(&self) -> Result<(), AuthConfigError> {
        let without_effect = match self.kind {
            VerifierKind::Jwks => [
                ("screened_by", self.screened_by.is_some()),
                ("or_when_unavailable", self.or_when_unavailable.is_some()),
                ("token_review", self.token_review.is_some()),
            ]
            .into_iter()
            .find_map(|(name, is_set)| is_set.then_some((name, "is only for token_review"))),
            VerifierKind::TokenReview => {
                let is_used = self.screened_by.is_some() || self.or_when_unavailable.is_some();
                let problem = "has no effect: name jwks as the kind, in screened_by, or in \
                               or_when_unavailable, or drop it";
                (self.jwks.is_some() && !is_used).then_some(("jwks", problem))
            }
        };
        match without_effect {
            Some((name, problem)) => Err(AuthConfigError::new(format!("verifier.{name}"), problem)),
            None => Ok(()),
        }
    }

    fn token_review(&self, api_server: &ApiServer) -> Result<TokenReviewVerifier, AuthConfigError> {
        let timeout = self.token_review.as_ref().and_then(|options| options.timeout);
        if timeout.is_some_and(|DurationValue(limit)| limit.is_zero()) {
            let problem = "is 0, so no token could be verified: set a positive duration";
            return Err(AuthConfigError::new("verifier.token_review.timeout", problem));
        }
        let verifier = TokenReviewVerifier::new(api_server.clone());
        Ok(apply(timeout, verifier, TokenReviewVerifier::timeout))
    }
}
