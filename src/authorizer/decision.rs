//! The decision of an authorizer.

use std::fmt;

/// Whether the caller may do what its request asks for. Exhaustive on purpose: there is no third
/// outcome but [`AuthorizeError`](super::AuthorizeError), which is no decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The request goes on to the inner service.
    Allow,
    /// The request is answered with 403.
    Deny(DenyReason),
}

/// Why a caller is denied. For logs, metrics and hooks; callers are not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DenyReason {
    /// The caller is not on the allow-list.
    NotListed,
    /// The cluster's RBAC (or another authorizer of the API server) does not allow it.
    AccessReview,
    /// The authorizer knows no attributes to ask about for this request.
    NoAttributes,
    /// The token was confirmed for an audience that has no rule.
    NoRuleForAudience,
    /// Another reason, in words.
    Custom(&'static str),
}

impl DenyReason {
    /// Returns a short name in snake case, for logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotListed => "not_listed",
            Self::AccessReview => "access_review",
            Self::NoAttributes => "no_attributes",
            Self::NoRuleForAudience => "no_rule_for_audience",
            Self::Custom(_) => "custom",
        }
    }
}

impl fmt::Display for DenyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotListed => "the caller is not on the allow-list",
            Self::AccessReview => "the API server does not allow it",
            Self::NoAttributes => "no rule covers the request",
            Self::NoRuleForAudience => "the token's audience has no rule",
            Self::Custom(reason) => reason,
        })
    }
}
