//! One rule for each audience.

use std::{error::Error, fmt};

use super::{
    authorizer::Authorizer,
    decision::{Decision, DenyReason},
    dyn_authorizer::DynAuthorizer,
    error::AuthorizeError,
    request_head::RequestHead,
};
use crate::{identity::ServiceAccountIdentity, readiness::Need};

/// An authorizer with one rule for each audience of this service.
///
/// *Every* audience that the token was confirmed for must allow the request, so that a token with a
/// second, laxer audience does not get around the stricter one. An audience without a rule denies,
/// and so does a token without a confirmed audience.
///
/// ```
/// use tower_kube_auth::authorizer::{AllowList, PerAudience};
///
/// let rules = PerAudience::builder()
///     .audience("orders", AllowList::any_authenticated())
///     .audience("orders-admin", AllowList::new(["ops/console"])?)
///     .build()?;
/// # let _ = rules;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct PerAudience {
    rules: Box<[(Box<str>, DynAuthorizer)]>,
}

/// Collects the rules of a [`PerAudience`].
#[derive(Clone, Default)]
pub struct PerAudienceBuilder {
    rules: Vec<(Box<str>, DynAuthorizer)>,
}

/// Why a [`PerAudience`] could not be built.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PerAudienceBuildError {
    /// There is no rule.
    Empty,
    /// This audience has two rules.
    Duplicate(String),
}

impl PerAudience {
    /// Returns a builder without a rule.
    #[must_use]
    pub fn builder() -> PerAudienceBuilder {
        PerAudienceBuilder::default()
    }

    fn rule(&self, audience: &str) -> Option<&DynAuthorizer> {
        self.rules.iter().find(|(name, _)| **name == *audience).map(|(_, rule)| rule)
    }
}

impl PerAudienceBuilder {
    /// Adds the rule of `audience`.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>, rule: impl Authorizer) -> Self {
        self.rules.push((audience.into().into(), DynAuthorizer::new(rule)));
        self
    }

    /// Builds the authorizer.
    ///
    /// # Errors
    ///
    /// [`PerAudienceBuildError`] if there is no rule, or if an audience has two.
    pub fn build(self) -> Result<PerAudience, PerAudienceBuildError> {
        if self.rules.is_empty() {
            return Err(PerAudienceBuildError::Empty);
        }
        for (index, (audience, _)) in self.rules.iter().enumerate() {
            if self.rules.iter().take(index).any(|(earlier, _)| earlier == audience) {
                return Err(PerAudienceBuildError::Duplicate(audience.to_string()));
            }
        }
        Ok(PerAudience { rules: self.rules.into() })
    }
}

impl Authorizer for PerAudience {
    async fn authorize(
        &self,
        caller: &ServiceAccountIdentity,
        head: RequestHead<'_>,
    ) -> Result<Decision, AuthorizeError> {
        let mut decision = Decision::Deny(DenyReason::NoRuleForAudience);
        let mut failure = None;
        for audience in caller.audiences() {
            let Some(rule) = self.rule(audience) else {
                return Ok(Decision::Deny(DenyReason::NoRuleForAudience));
            };
            match rule.authorize(caller, head).await {
                Ok(Decision::Allow) => decision = Decision::Allow,
                Ok(denial) => return Ok(denial),
                // A later audience may still deny.
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(decision), Err)
    }

    fn authorize_now(
        &self,
        caller: &ServiceAccountIdentity,
        head: RequestHead<'_>,
    ) -> Option<Decision> {
        let mut decision = Some(Decision::Deny(DenyReason::NoRuleForAudience));
        for audience in caller.audiences() {
            match self.rule(audience) {
                None => return Some(Decision::Deny(DenyReason::NoRuleForAudience)),
                Some(rule) => match rule.authorize_now(caller, head)? {
                    Decision::Allow => decision = Some(Decision::Allow),
                    denial => return Some(denial),
                },
            }
        }
        decision
    }

    async fn check_needs(&self) -> Vec<Need> {
        let mut needs = Vec::new();
        for (_, rule) in &self.rules {
            needs.extend(rule.check_needs().await);
        }
        needs
    }
}

impl fmt::Debug for PerAudience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let audiences: Vec<_> = self.rules.iter().map(|(audience, _)| audience).collect();
        f.debug_struct("PerAudience").field("audiences", &audiences).finish_non_exhaustive()
    }
}

impl fmt::Debug for PerAudienceBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerAudienceBuilder").field("rules", &self.rules.len()).finish()
    }
}

impl fmt::Display for PerAudienceBuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no audience has a rule: add one with audience()"),
            Self::Duplicate(audience) => write!(f, "the audience {audience:?} has two rules"),
        }
    }
}

impl Error for PerAudienceBuildError {}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::{authorizer::AllowList, testing::IdentityBuilder};

    fn rules() -> PerAudience {
        PerAudience::builder()
            .audience("lax", AllowList::any_authenticated())
            .audience("strict", AllowList::new(["ops/console"]).unwrap())
            .build()
            .unwrap()
    }

    async fn is_allowed(caller: &ServiceAccountIdentity) -> bool {
        let request = Request::new(());
        let head = RequestHead::from(&request);
        let decision = rules().authorize(caller, head).await.unwrap();
        assert_eq!(rules().authorize_now(caller, head), Some(decision));
        decision == Decision::Allow
    }

    fn caller(namespace: &str, name: &str, audiences: &[&str]) -> ServiceAccountIdentity {
        let builder = IdentityBuilder::new(namespace, name);
        audiences.iter().fold(builder, |builder, audience| builder.audience(audience)).build()
    }

    #[tokio::test]
    async fn every_confirmed_audience_must_allow() {
        assert!(is_allowed(&caller("shop", "checkout", &["lax"])).await);
        assert!(!is_allowed(&caller("shop", "checkout", &["strict"])).await);
        assert!(!is_allowed(&caller("shop", "checkout", &["lax", "strict"])).await);
        assert!(!is_allowed(&caller("shop", "checkout", &["strict", "lax"])).await);
        assert!(is_allowed(&caller("ops", "console", &["strict", "lax"])).await);
    }

    #[tokio::test]
    async fn an_audience_without_a_rule_denies_and_so_does_none_at_all() {
        assert!(!is_allowed(&caller("ops", "console", &["strict", "unknown"])).await);
        assert!(!is_allowed(&caller("ops", "console", &["unknown"])).await);
        assert!(!is_allowed(&caller("ops", "console", &[])).await);
    }

    #[test]
    fn no_rule_and_two_rules_of_one_audience_are_errors() {
        assert_eq!(PerAudience::builder().build().unwrap_err(), PerAudienceBuildError::Empty);
        let twice = PerAudience::builder()
            .audience("orders", AllowList::any_authenticated())
            .audience("orders", AllowList::any_authenticated());
        let error = twice.build().unwrap_err();
        assert_eq!(error, PerAudienceBuildError::Duplicate("orders".to_owned()));
        assert!(error.to_string().contains("\"orders\""), "{error}");
    }
}
