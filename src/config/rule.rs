//! The rules: what the callers of an audience may do.

use serde::Deserialize;

use super::{
    error::AuthConfigError, subject_access_review::SubjectAccessReviewConfig, value::ListValue,
};
use crate::{
    api_server::ApiServer,
    audience::Audiences,
    authorizer::{AllowList, DynAuthorizer, PerAudience},
};

/// An accepted audience with its rule.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct AudienceConfig {
    /// The name that callers request their token for.
    pub(super) name: String,
    /// Who may call with a token for this audience.
    rule: RuleConfig,
}

/// A rule. Exactly one of its fields is set.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(extend("minProperties" = 1)))]
#[serde(deny_unknown_fields)]
pub(super) struct RuleConfig {
    /// Allows every authenticated ServiceAccount.
    #[serde(default)]
    any_authenticated: bool,
    /// Allows the listed ones: `namespace/name`, `namespace/*` or `group:NAME`.
    allow_list: Option<ListValue>,
    /// Allows what the cluster's RBAC allows.
    subject_access_review: Option<SubjectAccessReviewConfig>,
}

/// Returns an authorizer with the rules of all audiences. Each that a token was confirmed for must
/// allow.
pub(super) fn per_audience(
    audiences: &[AudienceConfig],
    api_server: &ApiServer,
) -> Result<DynAuthorizer, AuthConfigError> {
    let mut rules = PerAudience::builder();
    for (index, AudienceConfig { name, rule }) in audiences.iter().enumerate() {
        let path = format!("audiences[{index}]");
        if let Some(earlier) = audiences.iter().take(index).position(|other| other.name == *name) {
            let problem = format!("{name:?} is also the name of audiences[{earlier}]: drop one");
            return Err(AuthConfigError::new(format!("{path}.name"), problem));
        }
        Audiences::new([name])
            .map_err(|error| AuthConfigError::new(format!("{path}.name"), error))?;
        rules = rules.audience(name, rule.build(&format!("{path}.rule"), api_server)?);
    }
    rules.build().map(DynAuthorizer::new).map_err(|_| {
        let problem = "is empty: add the name that callers request their token for, with its rule";
        AuthConfigError::new("audiences", problem)
    })
}

impl RuleConfig {
    pub(super) fn build(
        &self,
        path: &str,
        api_server: &ApiServer,
    ) -> Result<DynAuthorizer, AuthConfigError> {
        match (self.any_authenticated, &self.allow_list, &self.subject_access_review) {
            (true, None, None) => Ok(DynAuthorizer::new(AllowList::any_authenticated())),
            (false, Some(entries), None) => {
                allow_list(entries, &format!("{path}.allow_list")).map(DynAuthorizer::new)
            }
            (false, None, Some(review)) => review
                .build(&format!("{path}.subject_access_review"), api_server)
                .map(DynAuthorizer::new),
            (false, None, None) => {
                let problem = "allows nobody: set one of allow_list, subject_access_review and \
                               any_authenticated";
                Err(AuthConfigError::new(path, problem))
            }
            _ => {
                let problem = "has more than one of allow_list, subject_access_review and \
                               any_authenticated: keep one";
                Err(AuthConfigError::new(path, problem))
            }
        }
    }
}

fn allow_list(entries: &ListValue, path: &str) -> Result<AllowList, AuthConfigError> {
    // The list's own error does not say which entry it is about.
    for (index, entry) in entries.iter().enumerate() {
        AllowList::new([entry])
            .map_err(|error| AuthConfigError::new(format!("{path}[{index}]"), error))?;
    }
    AllowList::new(entries.iter()).map_err(|error| AuthConfigError::new(path, error))
}
