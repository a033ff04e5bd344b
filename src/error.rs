//! Trouble on our own side: what kept a verifier from deciding.

use std::{borrow::Cow, error::Error, fmt, sync::Arc, time::Duration};

/// A verification that came to no decision: the API server is down, the answer is unreadable, our own rights are missing.
///
/// It says nothing about the caller's token. It is answered with 503 (never 401) and is never cached. Cheap to clone,
/// because everybody who waited for the same lookup gets it.
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
pub struct VerifyError(Arc<Inner>);

struct Inner {
    kind: VerifyErrorKind,
    message: Cow<'static, str>,
    retry_after: Option<Duration>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// What kind of trouble it was: stable, for metrics and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum VerifyErrorKind {
    /// The backend could not be reached, or failed on its own account (5xx).
    Unavailable,
    /// The backend did not answer in time.
    Timeout,
    /// The backend asked for a pause (429).
    RateLimited,
    /// Our own credential was not accepted by the backend (401).
    Unauthenticated,
    /// Our own credential lacks a right at the backend (403), `system:auth-delegator` for instance.
    Forbidden,
    /// The backend works, but could not tell about this token: a lookup of its own failed, or the token's key may be newer than
    /// those at hand.
    Inconclusive,
    /// The backend's answer made no sense.
    InvalidResponse,
    /// Too many verifications were under way.
    Saturated,
    /// The verifier panicked, or its task was ended with the runtime.
    Aborted,
}

impl VerifyErrorKind {
    /// A short name in snake case, for logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::RateLimited => "rate_limited",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::Inconclusive => "inconclusive",
            Self::InvalidResponse => "invalid_response",
            Self::Saturated => "saturated",
            Self::Aborted => "aborted",
        }
    }
}

impl VerifyError {
    /// An error of `kind`. The message is for the operator: say what failed and what to do; never put a token into it.
    pub fn new(kind: VerifyErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner { kind, message: message.into(), retry_after: None, source: None }))
    }

    /// Adds the error that caused this one.
    #[must_use]
    pub fn with_source(self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let source = Some(Arc::from(source.into()));
        Self(Arc::new(Inner { source, ..self.parts() }))
    }

    /// Adds how long callers should wait before they try again. Defaults to 1 s in the `Retry-After` header.
    #[must_use]
    pub fn with_retry_after(self, pause: Duration) -> Self {
        Self(Arc::new(Inner { retry_after: Some(pause), ..self.parts() }))
    }

    /// What kind of trouble it was.
    #[must_use]
    pub fn kind(&self) -> VerifyErrorKind {
        self.0.kind
    }

    /// How long to wait before trying again, where the backend said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    fn parts(&self) -> Inner {
        Inner {
            kind: self.0.kind,
            message: self.0.message.clone(),
            retry_after: self.0.retry_after,
            source: self.0.source.clone(),
        }
    }
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyError")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("retry_after", &self.0.retry_after)
            .field("source", &self.0.source.as_ref().map(ToString::to_string))
            .finish()
    }
}

impl Error for VerifyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
