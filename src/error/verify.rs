//! The error of a verification without a decision.

use super::details::{ErrorDetails, error_with_details};

/// A verification without a decision: the API server is down, its answer is unreadable, or this
/// service lacks a right.
///
/// It says nothing about the caller's token: it is answered with 503, never with 401, and is never
/// cached. Cheap to clone, because every request that waited for the same lookup receives it.
///
/// ```
/// use std::time::Duration;
/// use tower_kube_auth::error::{VerifyError, VerifyErrorKind};
///
/// let error = VerifyError::new(VerifyErrorKind::RateLimited, "the API server asked for a pause")
///     .with_retry_after(Duration::from_secs(3));
/// assert_eq!(error.kind(), VerifyErrorKind::RateLimited);
/// assert_eq!(error.to_string(), "the API server asked for a pause");
/// ```
#[derive(Clone)]
pub struct VerifyError(ErrorDetails<VerifyErrorKind>);

/// The kind of an infrastructure failure: stable, for metrics and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum VerifyErrorKind {
    /// The backend is unreachable, or failed itself (5xx).
    Unavailable,
    /// The backend did not answer in time.
    Timeout,
    /// The backend asked for a pause (429).
    RateLimited,
    /// The backend did not accept this service's own credential (401).
    Unauthenticated,
    /// This service lacks a right at the backend (403), `system:auth-delegator` for instance.
    Forbidden,
    /// The backend works, but could not decide about this token: one of its own lookups failed, or
    /// the token's key may be newer than the loaded ones.
    Inconclusive,
    /// The backend's answer is not valid.
    InvalidResponse,
    /// Too many verifications were in progress.
    Saturated,
    /// The verifier panicked, its task ended with the runtime, or the authenticator is shut down.
    Aborted,
}

impl VerifyErrorKind {
    /// Returns a short name in snake case, for logs and metrics.
    ///
    /// `Unauthenticated` is `own_token_rejected`: `unauthenticated` is a
    /// [`RejectReason`](crate::verdict::RejectReason::Unauthenticated), about a caller's token.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::RateLimited => "rate_limited",
            Self::Unauthenticated => "own_token_rejected",
            Self::Forbidden => "forbidden",
            Self::Inconclusive => "inconclusive",
            Self::InvalidResponse => "invalid_response",
            Self::Saturated => "saturated",
            Self::Aborted => "aborted",
        }
    }
}

error_with_details!(VerifyError, VerifyErrorKind);
