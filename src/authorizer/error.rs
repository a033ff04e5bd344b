//! The error of an authorization without a decision.

use std::{borrow::Cow, error::Error, fmt, time::Duration};

use crate::error::ErrorDetails;

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
    /// The authorizer panicked, or its task ended with the runtime.
    Aborted,
}

impl AuthorizeErrorKind {
    /// Returns a short name in snake case, for logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::RateLimited => "rate_limited",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::InvalidResponse => "invalid_response",
            Self::Saturated => "saturated",
            Self::Aborted => "aborted",
        }
    }
}

impl AuthorizeError {
    /// Creates an error of `kind`. The message is for the operator: it says what failed and what to
    /// do, and never contains a token.
    pub fn new(kind: AuthorizeErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(ErrorDetails::new(kind, message.into()))
    }

    /// Adds the error that caused this one.
    #[must_use]
    pub fn with_source(self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(self.0.with_source(source.into()))
    }

    /// Adds how long callers should wait before they retry. The `Retry-After` header defaults to
    /// 1 s.
    #[must_use]
    pub fn with_retry_after(self, pause: Duration) -> Self {
        Self(self.0.with_retry_after(pause))
    }

    /// Returns the kind of failure.
    #[must_use]
    pub fn kind(&self) -> AuthorizeErrorKind {
        self.0.kind()
    }

    /// Returns how long to wait before a retry, if the backend said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after()
    }
}

impl fmt::Display for AuthorizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for AuthorizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.debug("AuthorizeError", f)
    }
}

impl Error for AuthorizeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}
