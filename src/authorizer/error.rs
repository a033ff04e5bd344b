//! The error of an authorization without a decision.

use crate::error::{ErrorDetails, VerifyError, VerifyErrorKind, error_with_details};

/// An authorization without a decision: the API server is down, or this service lacks a right.
///
/// It says nothing about the caller: it is answered with 503, never with 403, and is never cached.
/// Cheap to clone.
///
/// ```
/// use tower_kube_auth::authorizer::{AuthorizeError, AuthorizeErrorKind};
///
/// let error = AuthorizeError::new(AuthorizeErrorKind::Unavailable, "the policy service is down");
/// assert_eq!(error.kind(), AuthorizeErrorKind::Unavailable);
/// assert_eq!(error.to_string(), "the policy service is down");
/// ```
#[derive(Clone)]
pub struct AuthorizeError(ErrorDetails<AuthorizeErrorKind>);

/// The kind of an infrastructure failure: stable, for metrics and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuthorizeErrorKind {
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
    /// The backend's answer is not valid.
    InvalidResponse,
    /// Too many reviews were in progress.
    Saturated,
    /// The authorizer panicked, its task ended with the runtime, or it is shut down.
    Aborted,
}

impl AuthorizeErrorKind {
    /// Returns a short name in snake case, for logs and metrics. `Unauthenticated` is
    /// `own_token_rejected`, as in [`VerifyErrorKind::as_str`].
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::RateLimited => "rate_limited",
            Self::Unauthenticated => "own_token_rejected",
            Self::Forbidden => "forbidden",
            Self::InvalidResponse => "invalid_response",
            Self::Saturated => "saturated",
            Self::Aborted => "aborted",
        }
    }
}

impl AuthorizeErrorKind {
    /// Returns the kind of a review whose failure is of `kind`.
    pub(super) fn of_review(kind: VerifyErrorKind) -> Self {
        match kind {
            VerifyErrorKind::Unavailable | VerifyErrorKind::Inconclusive => Self::Unavailable,
            VerifyErrorKind::Timeout => Self::Timeout,
            VerifyErrorKind::RateLimited => Self::RateLimited,
            VerifyErrorKind::Unauthenticated => Self::Unauthenticated,
            VerifyErrorKind::Forbidden => Self::Forbidden,
            VerifyErrorKind::InvalidResponse => Self::InvalidResponse,
            VerifyErrorKind::Saturated => Self::Saturated,
            VerifyErrorKind::Aborted => Self::Aborted,
        }
    }
}

error_with_details!(AuthorizeError, AuthorizeErrorKind);

impl AuthorizeError {
    /// Returns the error of a review whose failure is `error`.
    pub(super) fn of_review(error: VerifyError) -> Self {
        let pause = error.retry_after();
        let error = Self::new(AuthorizeErrorKind::of_review(error.kind()), error.to_string());
        match pause {
            Some(pause) => error.with_retry_after(pause),
            None => error,
        }
    }
}
