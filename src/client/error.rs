//! Why there is no token to send.

use std::{borrow::Cow, error::Error, fmt, sync::Arc};

/// A token could not be had. The message names the file or the API call, and what to do; it never contains a token.
///
/// Cheap to clone, because everybody who waited for the same attempt gets it.
///
/// ```
/// use tower_kube_auth::client::{TokenError, TokenErrorKind};
///
/// let error = TokenError::new(TokenErrorKind::Unavailable, "the vault is sealed; unseal it");
/// assert_eq!(error.kind(), TokenErrorKind::Unavailable);
/// assert_eq!(error.to_string(), "the vault is sealed; unseal it");
/// ```
#[derive(Clone)]
pub struct TokenError(Arc<Inner>);

struct Inner {
    kind: TokenErrorKind,
    message: Cow<'static, str>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What kind of trouble it was: stable, for metrics and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenErrorKind {
    /// A file could not be read.
    Unreadable,
    /// What was found is not a token: empty, not a JWT, too long.
    Malformed,
    /// The only token to be had has expired.
    Expired,
    /// The API server did not accept our own credential (401).
    Unauthenticated,
    /// The API server forbids it (403): `create` on `serviceaccounts/token` is missing.
    Forbidden,
    /// The API server found the request itself bad (400, 404, 409, 422): no such ServiceAccount, another uid.
    Refused,
    /// The API server asked for a pause (429).
    RateLimited,
    /// The API server could not be reached, or failed on its own account (5xx).
    Unavailable,
    /// The API server did not answer in time.
    Timeout,
    /// The API server's answer made no sense.
    InvalidResponse,
    /// Whose token to request could not be found out.
    UnknownServiceAccount,
    /// There is no Tokio runtime, or it was shut down.
    Aborted,
}

impl TokenErrorKind {
    /// A short name in snake case, for logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Malformed => "malformed",
            Self::Expired => "expired",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::Refused => "refused",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::InvalidResponse => "invalid_response",
            Self::UnknownServiceAccount => "unknown_service_account",
            Self::Aborted => "aborted",
        }
    }
}

impl TokenError {
    /// An error of `kind`. The message is for the operator: say what failed and what to do; never put a token into it.
    pub fn new(kind: TokenErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner { kind, message: message.into(), source: None }))
    }

    /// An error of `kind` that another one caused; see [`new`](Self::new) for the message.
    pub fn with_source(
        kind: TokenErrorKind,
        message: impl Into<Cow<'static, str>>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self(Arc::new(Inner { kind, message: message.into(), source: Some(source.into()) }))
    }

    /// What kind of trouble it was.
    #[must_use]
    pub fn kind(&self) -> TokenErrorKind {
        self.0.kind
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenError")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("source", &self.0.source.as_ref().map(ToString::to_string))
            .finish()
    }
}

impl Error for TokenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
