//! The error of a call to the API server.

use std::{error::Error, fmt, time::Duration};

use http::StatusCode;

use super::response_body::BoxError;
use crate::{
    error::{VerifyError, VerifyErrorKind},
    telemetry::Stage,
};

/// A call to the API server that failed, with all its attempts.
#[derive(Debug)]
pub(crate) struct ApiServerError {
    pub(super) failure: Failure,
    pub(super) purpose: Purpose,
    pub(super) timeout: Duration,
}

/// What a call is for and which right it needs, for error messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Purpose {
    pub(crate) call: &'static str,
    pub(crate) when_forbidden: &'static str,
    /// What a review is for; `None` for other calls.
    pub(crate) stage: Option<Stage>,
}

/// The remedy if this service may not create TokenReviews or SubjectAccessReviews.
pub(crate) const BIND_AUTH_DELEGATOR: &str = "bind the ClusterRole \
     `system:auth-delegator` to this service's own ServiceAccount: kubectl create \
     clusterrolebinding NAME --clusterrole=system:auth-delegator --serviceaccount=NAMESPACE:NAME";

/// The kind of an [`ApiServerError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ApiServerErrorKind {
    /// Unreachable, or 5xx.
    Unavailable,
    /// No answer within the time limit.
    Timeout,
    /// 429.
    RateLimited,
    /// 401: this service's own credential is not accepted.
    Unauthenticated,
    /// 403: this service lacks a right.
    Forbidden,
    /// 400, 404, 409, 422: the request is invalid.
    InvalidRequest,
    /// Any other status.
    InvalidResponse,
}

/// The failure of one attempt.
#[derive(Debug)]
pub(super) enum Failure {
    /// No connection, a broken one, or a response beyond the size limit.
    Transport(BoxError),
    /// A response that is not 2xx.
    Status { status: StatusCode, retry_after: Option<Duration>, message: String },
    /// No response within the time limit.
    Timeout,
}

impl Failure {
    /// Whether the call may succeed on a retry, by the rule of k8s.io/apiserver's webhook clients,
    /// extended to all of 5xx: connection errors, 429, and whatever has a `Retry-After`.
    pub(super) fn is_retryable(&self) -> bool {
        match self {
            Self::Transport(_) | Self::Timeout => true,
            Self::Status { status, retry_after, .. } => {
                status.is_server_error()
                    || *status == StatusCode::TOO_MANY_REQUESTS
                    || retry_after.is_some()
            }
        }
    }

    pub(super) fn kind(&self) -> ApiServerErrorKind {
        match self {
            Self::Transport(_) => ApiServerErrorKind::Unavailable,
            Self::Timeout => ApiServerErrorKind::Timeout,
            Self::Status { status, .. } => match *status {
                StatusCode::UNAUTHORIZED => ApiServerErrorKind::Unauthenticated,
                StatusCode::FORBIDDEN => ApiServerErrorKind::Forbidden,
                StatusCode::TOO_MANY_REQUESTS => ApiServerErrorKind::RateLimited,
                StatusCode::BAD_REQUEST
                | StatusCode::NOT_FOUND
                | StatusCode::CONFLICT
                | StatusCode::UNPROCESSABLE_ENTITY => ApiServerErrorKind::InvalidRequest,
                status if status.is_server_error() => ApiServerErrorKind::Unavailable,
                _ => ApiServerErrorKind::InvalidResponse,
            },
        }
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::Transport(_) | Self::Timeout => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transport(error) => {
                write!(f, "{error}")?;
                let mut source = error.source();
                while let Some(error) = source {
                    write!(f, ": {error}")?;
                    source = error.source();
                }
                Ok(())
            }
            Self::Status { status, .. } => write!(f, "it answered {status}"),
            Self::Timeout => f.write_str("no answer"),
        }
    }
}

impl ApiServerError {
    /// Returns the status of the response, if there was one.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        match &self.failure {
            Failure::Status { status, .. } => Some(*status),
            Failure::Transport(_) | Failure::Timeout => None,
        }
    }

    /// Returns the API server's message; empty if there is none.
    pub(crate) fn status_message(&self) -> &str {
        match &self.failure {
            Failure::Status { message, .. } => message,
            Failure::Transport(_) | Failure::Timeout => "",
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.failure.retry_after()
    }

    pub(crate) fn kind(&self) -> ApiServerErrorKind {
        self.failure.kind()
    }
}

impl fmt::Display for ApiServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Purpose { call, when_forbidden, .. } = self.purpose;
        match &self.failure {
            Failure::Transport(_) => {
                write!(f, "{call}: the API server cannot be reached: {}", self.failure)
            }
            Failure::Timeout => {
                write!(f, "{call}: no answer from the API server within {:?}", self.timeout)
            }
            Failure::Status { status, message, .. } => match *status {
                StatusCode::UNAUTHORIZED => write!(
                    f,
                    "{call}: the API server does not accept this service's own credential (401); is the \
                     token that the client sends expired, or for another audience or cluster?"
                ),
                StatusCode::FORBIDDEN => write!(
                    f,
                    "{call}: the API server forbids it (403); {when_forbidden} [{message}]"
                ),
                _ => write!(f, "{call}: the API server answered {status}"),
            },
        }
    }
}

impl Error for ApiServerError {}

impl From<ApiServerError> for VerifyError {
    fn from(error: ApiServerError) -> Self {
        let kind = match error.kind() {
            ApiServerErrorKind::Unavailable => VerifyErrorKind::Unavailable,
            ApiServerErrorKind::Timeout => VerifyErrorKind::Timeout,
            ApiServerErrorKind::RateLimited => VerifyErrorKind::RateLimited,
            ApiServerErrorKind::Unauthenticated => VerifyErrorKind::Unauthenticated,
            ApiServerErrorKind::Forbidden => VerifyErrorKind::Forbidden,
            ApiServerErrorKind::InvalidRequest | ApiServerErrorKind::InvalidResponse => {
                VerifyErrorKind::InvalidResponse
            }
        };
        let verify_error = Self::new(kind, error.to_string());
        match error.retry_after() {
            Some(pause) => verify_error.with_retry_after(pause),
            None => verify_error,
        }
    }
}
