//! A verifier's decision about a token.

use std::{fmt, sync::Arc, time::SystemTime};

use crate::{
    audience::Audiences,
    error::VerifyError,
    identity::{ServiceAccountIdentity, UserInfo},
};

/// What a verifier decided. A decision may be cached; trouble on our side is a [`VerifyError`](crate::error::VerifyError)
/// instead, and may not.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The token is good for one of the audiences, and its bearer is this ServiceAccount.
    Accept(Acceptance),
    /// The token is not good here.
    Reject(RejectReason),
}

/// What a verification ends with: a decision, or the failure that prevented one.
pub(crate) type Outcome = Result<Verdict, VerifyError>;

/// An accepted token: who bears it, and until when that may be believed.
#[derive(Clone, Debug, PartialEq)]
pub struct Acceptance {
    identity: ServiceAccountIdentity,
}

impl Acceptance {
    pub(crate) fn new(identity: ServiceAccountIdentity) -> Self {
        Self { identity }
    }

    /// The same acceptance, by a fallback.
    pub(crate) fn by_fallback(self) -> Self {
        Self { identity: self.identity.by_fallback() }
    }

    /// For implementers of [`Verifier`](crate::verifier::Verifier): states that *you have verified* the token and that
    /// Kubernetes names its bearer `user`.
    ///
    /// `claimed` are the audiences that the token is good for; those of them that `audiences` accepts become the
    /// identity's. `expires_at` is the token's `exp`: nothing is served from the cache past it.
    ///
    /// # Errors
    ///
    /// The [`RejectReason`] to reject the token for: [`RejectReason::Audience`] if none of the audiences is accepted,
    /// [`RejectReason::NotAServiceAccount`] unless username, uid and groups are strictly those of a ServiceAccount.
    ///
    /// ```
    /// use tower_kube_auth::{audience::Audiences, identity::UserInfo, verdict::Acceptance};
    ///
    /// let user = UserInfo::service_account("shop", "checkout", "6b2f7c9e-0000-4000-8000-000000000000");
    /// let audiences = Audiences::new(["orders"]).unwrap();
    /// let acceptance = Acceptance::from_user_info(user, &audiences, ["orders"], None, None).unwrap();
    /// assert_eq!(acceptance.identity().name(), "checkout");
    /// ```
    pub fn from_user_info<'a>(
        user: UserInfo,
        audiences: &Audiences,
        claimed: impl IntoIterator<Item = &'a str>,
        issuer: Option<Arc<str>>,
        expires_at: Option<SystemTime>,
    ) -> Result<Self, RejectReason> {
        let common = audiences.intersection(claimed);
        if common.is_empty() {
            return Err(RejectReason::Audience);
        }
        ServiceAccountIdentity::from_user_info(user, common, issuer, expires_at)
            .map(Self::new)
            .ok_or(RejectReason::NotAServiceAccount)
    }

    /// The ServiceAccount.
    #[must_use]
    pub fn identity(&self) -> &ServiceAccountIdentity {
        &self.identity
    }
}

/// Why a token is not good here. For logs, metrics and tests; callers are told no more than `invalid_token`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectReason {
    /// It is not a JWT in compact serialisation with the header and the claims of a ServiceAccount token.
    Malformed,
    /// Its algorithm is not allowed here, or does not fit the key (`none` and HMAC never are).
    Algorithm,
    /// No key of the issuer has the key id that it names.
    UnknownKey,
    /// The signature does not fit.
    Signature,
    /// Its issuer is not one of ours.
    Issuer,
    /// It is for other audiences.
    Audience,
    /// It has no `exp`, or that time is over.
    Expired,
    /// Its `nbf` or `iat` lies in the future.
    NotYetValid,
    /// It is authentic, but its bearer is not a ServiceAccount.
    NotAServiceAccount,
    /// The API server does not authenticate it: a bad signature, a deleted ServiceAccount or Pod, an expiry; it does not say.
    Unauthenticated,
    /// A custom verifier's own reason.
    Denied,
}

impl RejectReason {
    /// A short name in snake case, for logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::NotAServiceAccount => "not_a_service_account",
            Self::Unauthenticated => "unauthenticated",
            Self::Denied => "denied",
        }
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the token is not a ServiceAccount's JWT",
            Self::Algorithm => "the token's algorithm is not allowed or does not fit its key",
            Self::UnknownKey => "no key of the issuer has the token's key id",
            Self::Signature => "the token's signature does not fit",
            Self::Issuer => "the token's issuer is not accepted",
            Self::Audience => "the token is for another audience",
            Self::Expired => "the token has expired",
            Self::NotYetValid => "the token is not valid yet",
            Self::NotAServiceAccount => "the token's bearer is not a ServiceAccount",
            Self::Unauthenticated => "the API server does not authenticate the token",
            Self::Denied => "the verifier denied the token",
        })
    }
}
