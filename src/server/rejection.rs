//! The reasons why a request is rejected, and what each one means in HTTP and gRPC.

use std::fmt;

use http::StatusCode;

use crate::{
    error::VerifyError,
    identity::ServiceAccountIdentity,
    token::MalformedToken,
    verdict::{Outcome, RejectReason, Verdict},
};

/// Why a request is rejected, for the hook of
/// [`map_rejection_response`](super::AuthenticateLayer::map_rejection_response) and for logs.
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
    /// No decision was reached: a failure on this side.
    Unavailable(VerifyError),
}

impl Rejection {
    /// Returns the HTTP status: 401, 400, 401 or 503, in the order of the variants.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::MissingToken | Self::InvalidToken(_) => StatusCode::UNAUTHORIZED,
            Self::MalformedToken(_) => StatusCode::BAD_REQUEST,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
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
            Self::MissingToken | Self::Unavailable(_) => None,
        }
    }

    /// Returns the gRPC status code: 16 (`UNAUTHENTICATED`), or 14 (`UNAVAILABLE`) for a failure on
    /// this side.
    #[must_use]
    pub fn grpc_code(&self) -> u8 {
        match self {
            Self::MissingToken | Self::MalformedToken(_) | Self::InvalidToken(_) => 16,
            Self::Unavailable(_) => 14,
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
        }
    }
}

impl std::error::Error for Rejection {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::MalformedToken(malformed) => Some(malformed),
            Self::Unavailable(error) => Some(error),
            Self::MissingToken | Self::InvalidToken(_) => None,
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
