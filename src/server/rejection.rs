//! The reasons why a request is rejected, and what each one means in HTTP and gRPC.

use std::{fmt, time::Duration};

use http::StatusCode;

use crate::{
    authorizer::{AuthorizeError, DenyReason},
    error::VerifyError,
    identity::ServiceAccountIdentity,
    token::MalformedToken,
    verdict::{Outcome, RejectReason, Verdict},
};

const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a request is rejected or denied, for the hook of
/// [`map_rejection_response`](super::AuthenticateLayer::map_rejection_response) and for logs.
///
/// [`AuthenticateLayer`](super::AuthenticateLayer) makes the first four,
/// [`AuthorizeLayer`](super::AuthorizeLayer) the others and [`MissingToken`](Self::MissingToken).
///
/// Contains no part of the token. By default, callers are told [`body_text`](Self::body_text) only.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Rejection {
    /// There is no bearer token.
    MissingToken,
    /// The credential is malformed, or there is more than one.
    MalformedToken(MalformedToken),
    /// The token is not valid for this service.
    InvalidToken(RejectReason),
    /// The token could not be verified: a failure on this side.
    Unavailable(VerifyError),
    /// The caller may not do this.
    Forbidden(DenyReason),
    /// There was no decision about what the caller may do: a failure on this side.
    AuthorizationUnavailable(AuthorizeError),
    /// The request passed no authenticate layer: a mistake in the service's own code.
    MissingAuthenticateLayer,
}

impl Rejection {
    /// Returns the HTTP status: 401, 400, 401, 503, 403, 503 or 500, in the order of the variants.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::MissingToken | Self::InvalidToken(_) => StatusCode::UNAUTHORIZED,
            Self::MalformedToken(_) => StatusCode::BAD_REQUEST,
            Self::Unavailable(_) | Self::AuthorizationUnavailable(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::MissingAuthenticateLayer => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Returns the text for the caller, which reveals nothing about tokens or the backend.
    #[must_use]
    pub fn body_text(&self) -> &'static str {
        match self {
            Self::MissingToken => "a bearer token is required",
            Self::MalformedToken(_) => "the Authorization header is malformed",
            Self::InvalidToken(_) => "the bearer token is not accepted",
            Self::Unavailable(_) => "the bearer token cannot be verified at the moment",
            Self::Forbidden(_) => "access is denied",
            Self::AuthorizationUnavailable(_) => "access cannot be checked at the moment",
            Self::MissingAuthenticateLayer => "the service is misconfigured",
        }
    }

    /// Returns the error code of [RFC 6750
    /// §3.1](https://www.rfc-editor.org/rfc/rfc6750#section-3.1), if a token was sent and the
    /// failure is not on this side.
    #[must_use]
    pub fn error_code(&self) -> Option<&'static str> {
        match self {
            Self::MalformedToken(_) => Some("invalid_request"),
            Self::InvalidToken(_) => Some("invalid_token"),
            Self::Forbidden(_) => Some("insufficient_scope"),
            Self::MissingToken
            | Self::Unavailable(_)
            | Self::AuthorizationUnavailable(_)
            | Self::MissingAuthenticateLayer => None,
        }
    }

    /// Returns a short name in snake case, for logs and metrics: the variant's, or that of the
    /// reason or error in it.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::MissingToken => "missing_token",
            Self::MalformedToken(_) => "malformed_token",
            Self::InvalidToken(reason) => reason.as_str(),
            Self::Unavailable(error) => error.kind().as_str(),
            Self::Forbidden(reason) => reason.as_str(),
            Self::AuthorizationUnavailable(error) => error.kind().as_str(),
            Self::MissingAuthenticateLayer => "missing_authenticate_layer",
        }
    }

    /// Returns the gRPC status code: 16 (`UNAUTHENTICATED`), 7 (`PERMISSION_DENIED`), or for a
    /// failure on this side 14 (`UNAVAILABLE`) or 13 (`INTERNAL`).
    #[must_use]
    pub fn grpc_code(&self) -> u8 {
        match self {
            Self::MissingToken | Self::MalformedToken(_) | Self::InvalidToken(_) => 16,
            Self::Forbidden(_) => 7,
            Self::Unavailable(_) | Self::AuthorizationUnavailable(_) => 14,
            Self::MissingAuthenticateLayer => 13,
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingToken => f.write_str("there is no bearer token"),
            Self::MalformedToken(malformed) => malformed.fmt(f),
            Self::InvalidToken(reason) => reason.fmt(f),
            Self::Unavailable(error) => error.fmt(f),
            Self::Forbidden(reason) => reason.fmt(f),
            Self::AuthorizationUnavailable(error) => error.fmt(f),
            Self::MissingAuthenticateLayer => f.write_str(
                "the request passed no AuthenticateLayer in front of the AuthorizeLayer",
            ),
        }
    }
}

impl std::error::Error for Rejection {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::MalformedToken(malformed) => Some(malformed),
            Self::Unavailable(error) => Some(error),
            Self::AuthorizationUnavailable(error) => Some(error),
            Self::MissingToken
            | Self::InvalidToken(_)
            | Self::Forbidden(_)
            | Self::MissingAuthenticateLayer => None,
        }
    }
}

impl Rejection {
    /// Returns how long the caller should wait before a retry, if the failure is on this side and
    /// passes.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable(error) => Some(error.retry_after().unwrap_or(DEFAULT_RETRY_AFTER)),
            Self::AuthorizationUnavailable(error) => {
                Some(error.retry_after().unwrap_or(DEFAULT_RETRY_AFTER))
            }
            _ => None,
        }
    }
}

/// Returns the identity of an acceptance, or the rejection that any other outcome leads to.
pub(super) fn accepted_identity(outcome: Outcome) -> Result<ServiceAccountIdentity, Rejection> {
    match outcome {
        Ok(Verdict::Accept(acceptance)) => Ok(acceptance.identity().clone()),
        Ok(Verdict::Reject(reason)) => Err(Rejection::InvalidToken(reason)),
        Err(error) => Err(Rejection::Unavailable(error)),
    }
}
