//! The error of a token source.

use crate::error::{ErrorDetails, error_with_details};

/// Why a [`TokenSource`](super::TokenSource) has no token. The message names the file or the API
/// call and what to do; it never contains a token.
///
/// Cheap to clone, because every caller that waited for the same attempt receives it.
///
/// ```
/// use tower_kube_auth::client::{TokenError, TokenErrorKind};
///
/// let error = TokenError::new(TokenErrorKind::Unavailable, "the vault is sealed; unseal it");
/// assert_eq!(error.kind(), TokenErrorKind::Unavailable);
/// assert_eq!(error.to_string(), "the vault is sealed; unseal it");
/// ```
#[derive(Clone)]
pub struct TokenError(ErrorDetails<TokenErrorKind>);

/// The kind of a [`TokenError`]: stable, for metrics and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenErrorKind {
    /// A file cannot be read.
    Unreadable,
    /// The file or the answer does not hold a token: it is empty, not a JWT, or too long.
    Malformed,
    /// The only available token has expired.
    Expired,
    /// The API server did not accept this service's own credential (401).
    Unauthenticated,
    /// The API server forbids it (403): `create` on `serviceaccounts/token` is missing.
    Forbidden,
    /// The API server found the request invalid (400, 404, 409, 422): the ServiceAccount does not
    /// exist, or an object has another uid.
    InvalidRequest,
    /// The API server asked for a pause (429).
    RateLimited,
    /// The API server is unreachable, or failed itself (5xx).
    Unavailable,
    /// The API server did not answer in time.
    Timeout,
    /// The API server's answer is not valid.
    InvalidResponse,
    /// The ServiceAccount to request a token for is not known.
    UnknownServiceAccount,
    /// There is no Tokio runtime, or it was shut down.
    Aborted,
}

impl TokenErrorKind {
    /// Returns a short name in snake case, for logs and metrics. `Unauthenticated` is
    /// `own_token_rejected`, as in [`VerifyErrorKind::as_str`](crate::error::VerifyErrorKind::as_str).
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Malformed => "malformed",
            Self::Expired => "expired",
            Self::Unauthenticated => "own_token_rejected",
            Self::Forbidden => "forbidden",
            Self::InvalidRequest => "invalid_request",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::InvalidResponse => "invalid_response",
            Self::UnknownServiceAccount => "unknown_service_account",
            Self::Aborted => "aborted",
        }
    }
}

error_with_details!(TokenError, TokenErrorKind);
