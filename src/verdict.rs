//! A verifier's decision about a token.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

#[cfg(feature = "server")]
use crate::identity::AuthenticatorId;
use crate::{
    audience::Audiences,
    error::VerifyError,
    identity::{ServiceAccountIdentity, UserInfo},
};

/// What a verifier decided. A decision may be cached; an infrastructure failure is a
/// [`VerifyError`] instead, and must not be. Exhaustive on purpose.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The token is valid for one of the audiences, and its bearer is this ServiceAccount.
    Accept(Acceptance),
    /// The token is not valid for this service.
    Reject(RejectReason),
}

impl Verdict {
    /// Marks an acceptance as an authenticator's.
    #[cfg(feature = "server")]
    pub(crate) fn accepted_by(self, authenticator: AuthenticatorId) -> Self {
        match self {
            Self::Accept(Acceptance { identity, cached_for }) => {
                let identity = identity.accepted_by(authenticator);
                Self::Accept(Acceptance { identity, cached_for })
            }
            rejection => rejection,
        }
    }
}

/// What a verification ends with: a decision, or the failure that prevented one.
pub(crate) type Outcome = Result<Verdict, VerifyError>;

/// An accepted token: whose it is, and until when.
#[derive(Clone, Debug)]
pub struct Acceptance {
    identity: ServiceAccountIdentity,
    /// Upper bound for the time in a cache.
    cached_for: Option<Duration>,
}

/// For how long an acceptance may be cached is no part of the decision.
impl PartialEq for Acceptance {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

impl Acceptance {
    pub(crate) fn new(identity: ServiceAccountIdentity) -> Self {
        Self { identity, cached_for: None }
    }

    /// Marks the acceptance as a fallback's.
    pub(crate) fn by_fallback(self) -> Self {
        Self { identity: self.identity.by_fallback(), ..self }
    }

    /// Bounds the time in a cache, from now on.
    #[cfg(all(feature = "watch", feature = "jwks"))]
    pub(crate) fn cached_for(self, limit: Duration) -> Self {
        Self { cached_for: Some(limit), ..self }
    }

    #[cfg(feature = "server")]
    pub(crate) fn max_cached(&self) -> Option<Duration> {
        self.cached_for
    }

    /// Begins to state an acceptance, for implementers of [`Verifier`](crate::verifier::Verifier):
    /// *you have verified* the token, Kubernetes names its bearer `user`, and the token is valid
    /// for `token_audiences`.
    ///
    /// ```
    /// use tower_kube_auth::{Audiences, identity::UserInfo, verdict::Acceptance};
    ///
    /// let accepted = Audiences::new(["orders"]).unwrap();
    /// let uid = "6b2f7c9e-0000-4000-8000-000000000000";
    /// let user = UserInfo::service_account("shop", "checkout", uid);
    /// let acceptance = Acceptance::builder(user, ["orders"])
    ///     .issuer("https://kubernetes.default.svc")
    ///     .build(&accepted)
    ///     .unwrap();
    /// assert_eq!(acceptance.identity().name(), "checkout");
    /// ```
    pub fn builder<'a, A>(user: UserInfo, token_audiences: A) -> AcceptanceBuilder<A>
    where
        A: IntoIterator<Item = &'a str>,
    {
        AcceptanceBuilder { user, token_audiences, issuer: None, expires_at: None }
    }

    /// Returns the ServiceAccount.
    #[must_use]
    pub fn identity(&self) -> &ServiceAccountIdentity {
        &self.identity
    }
}

/// The parts of an [`Acceptance`]; made by [`Acceptance::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct AcceptanceBuilder<A> {
    user: UserInfo,
    token_audiences: A,
    issuer: Option<Arc<str>>,
    expires_at: Option<SystemTime>,
}

impl<'a, A: IntoIterator<Item = &'a str>> AcceptanceBuilder<A> {
    /// Sets the token's issuer. Unknown by default.
    pub fn issuer(mut self, issuer: impl Into<Arc<str>>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// Sets the token's `exp`; the cache serves nothing past it. Unknown by default, which leaves
    /// only the cache's TTL.
    pub fn expires_at(mut self, expires_at: SystemTime) -> Self {
        self.expires_at = Some(expires_at);
        self
    }

    /// Builds the acceptance for a service that accepts `audiences`. Those of the token's audiences
    /// that are among them become the identity's.
    ///
    /// # Errors
    ///
    /// The [`RejectReason`] to reject the token for: [`RejectReason::Audience`] if none of its
    /// audiences is accepted, [`RejectReason::NotAServiceAccount`] unless username, uid and groups
    /// are strictly those of a ServiceAccount.
    pub fn build(self, audiences: &Audiences) -> Result<Acceptance, RejectReason> {
        let common = audiences.intersection(self.token_audiences);
        if common.is_empty() {
            return Err(RejectReason::Audience);
        }
        let Self { user, issuer, expires_at, .. } = self;
        accept(user, common, issuer, expires_at)
    }

    /// Builds the acceptance of a token that the API server authenticated for its own audience. The
    /// audiences that it named, if any, become the identity's.
    pub(crate) fn build_for_api_server(self) -> Result<Acceptance, RejectReason> {
        let Self { user, token_audiences, issuer, expires_at } = self;
        accept(user, token_audiences.into_iter().map(Arc::from).collect(), issuer, expires_at)
    }
}

fn accept(
    user: UserInfo,
    audiences: Vec<Arc<str>>,
    issuer: Option<Arc<str>>,
    expires_at: Option<SystemTime>,
) -> Result<Acceptance, RejectReason> {
    ServiceAccountIdentity::from_user_info(user, audiences, issuer, expires_at)
        .map(Acceptance::new)
        .ok_or(RejectReason::NotAServiceAccount)
}

/// Why a token is rejected. For logs, metrics and tests; callers are told `invalid_token` only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectReason {
    /// It is not a JWT in compact serialisation with the header and the claims of a ServiceAccount
    /// token.
    Malformed,
    /// Its algorithm is not allowed or does not fit the key (`none` and HMAC are never allowed).
    Algorithm,
    /// No key of the issuer has the key id that the token names.
    UnknownKey,
    /// The signature is wrong.
    Signature,
    /// Its issuer is not accepted.
    Issuer,
    /// It is for other audiences.
    Audience,
    /// It has no `exp`, or `exp` is past.
    Expired,
    /// Its `nbf` or `iat` lies in the future.
    NotYetValid,
    /// It lives longer than this service allows.
    LifetimeTooLong,
    /// It is authentic, but its bearer is not a ServiceAccount.
    NotAServiceAccount,
    /// The API server does not authenticate it: its signature is wrong, its ServiceAccount or Pod
    /// was deleted, or it has expired. The API server does not say which.
    Unauthenticated,
    /// Its ServiceAccount, or the Pod, Secret or Node that it is bound to, was deleted, as a watch
    /// (`LiveObjects`) has shown.
    Deleted,
    /// A custom verifier's own reason.
    Denied,
}

impl RejectReason {
    /// Returns a short name in snake case, for logs and metrics.
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
            Self::LifetimeTooLong => "lifetime_too_long",
            Self::NotAServiceAccount => "not_a_service_account",
            Self::Unauthenticated => "unauthenticated",
            Self::Deleted => "deleted",
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
            Self::Signature => "the token's signature is wrong",
            Self::Issuer => "the token's issuer is not accepted",
            Self::Audience => "the token is for another audience",
            Self::Expired => "the token has expired",
            Self::NotYetValid => "the token is not valid yet",
            Self::LifetimeTooLong => "the token lives longer than this service allows",
            Self::NotAServiceAccount => "the token's bearer is not a ServiceAccount",
            Self::Unauthenticated => "the API server does not authenticate the token",
            Self::Deleted => "an object of the token was deleted",
            Self::Denied => "the verifier denied the token",
        })
    }
}
