//! Why a request is refused, and what HTTP and gRPC say to it.

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderValue, Response, StatusCode, header};

use crate::{
    error::{VerifyError, VerifyErrorKind},
    token::MalformedToken,
    verdict::RejectReason,
};

const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(1);
/// Longer than that, nobody who is told so comes back.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// A refused request: the cause, for the hook of [`map_rejection_response`](super::AuthenticateLayer::map_rejection_response) and for logs.
///
/// The causes hold no part of the token. Still, what callers are told by default is only [`body_text`](Self::body_text).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Rejection {
    /// There is no bearer token.
    MissingToken,
    /// The credential is malformed, or there is more than one.
    MalformedToken(MalformedToken),
    /// The token is not good here.
    InvalidToken(RejectReason),
    /// No decision could be reached: our trouble.
    Unavailable(VerifyError),
}

impl Rejection {
    /// The HTTP status: 401, 400, 401 or 503, in the order of the variants.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::MissingToken | Self::InvalidToken(_) => StatusCode::UNAUTHORIZED,
            Self::MalformedToken(_) => StatusCode::BAD_REQUEST,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// What the caller is told: nothing that helps to forge a token or to map the backend.
    #[must_use]
    pub fn body_text(&self) -> &'static str {
        match self {
            Self::MissingToken => "a bearer token is required",
            Self::MalformedToken(_) => "the Authorization header is malformed",
            Self::InvalidToken(_) => "the bearer token is not accepted",
            Self::Unavailable(_) => "the bearer token cannot be verified at the moment",
        }
    }

    /// The error code of [RFC 6750 §3.1](https://www.rfc-editor.org/rfc/rfc6750#section-3.1); none where no token was
    /// sent, and none for trouble of ours.
    #[must_use]
    pub fn error_code(&self) -> Option<&'static str> {
        match self {
            Self::MalformedToken(_) => Some("invalid_request"),
            Self::InvalidToken(_) => Some("invalid_token"),
            Self::MissingToken | Self::Unavailable(_) => None,
        }
    }

    /// The gRPC status code: 16 (`UNAUTHENTICATED`), or 14 (`UNAVAILABLE`) for trouble of ours.
    #[must_use]
    pub fn grpc_code(&self) -> u8 {
        match self {
            Self::MissingToken | Self::MalformedToken(_) | Self::InvalidToken(_) => 16,
            Self::Unavailable(_) => 14,
        }
    }

    /// Status and headers of the HTTP response.
    pub(super) fn response(&self, realm: &Arc<str>) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        if let Self::Unavailable(error) = self {
            headers.insert(header::RETRY_AFTER, retry_after(error));
        } else if let Ok(challenge) = HeaderValue::try_from(self.challenge(realm)) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }

    /// Trailers-only, as the gRPC protocol spells a refusal before the first message: the HTTP status is 200.
    pub(super) fn grpc_response(&self) -> Response<()> {
        let mut response = Response::new(());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(u16::from(self.grpc_code())));
        headers.insert("grpc-message", HeaderValue::from_static(self.body_text()));
        if let Self::Unavailable(error) = self {
            headers.insert(header::RETRY_AFTER, retry_after(error));
        }
        response
    }

    fn challenge(&self, realm: &str) -> String {
        // `build()` has checked that the realm needs no escape.
        match self.error_code() {
            None => format!("Bearer realm=\"{realm}\""),
            Some(code) => {
                format!(
                    "Bearer realm=\"{realm}\", error=\"{code}\", error_description=\"{}\"",
                    self.body_text()
                )
            }
        }
    }

    /// Refusals are the callers' affair; trouble of ours is the operator's.
    pub(super) fn log(&self) {
        match self {
            // Anybody can cause these by sending junk, and so must not be able to fill the log.
            Self::Unavailable(error)
                if matches!(
                    error.kind(),
                    VerifyErrorKind::Saturated
                        | VerifyErrorKind::RateLimited
                        | VerifyErrorKind::Inconclusive
                ) =>
            {
                tracing::debug!(kind = error.kind().as_str(), %error, "a bearer token could not be verified");
            }
            Self::Unavailable(error) => {
                tracing::warn!(kind = error.kind().as_str(), %error, "a bearer token could not be verified");
            }
            Self::InvalidToken(reason) => {
                tracing::debug!(reason = reason.as_str(), "a bearer token is refused")
            }
            Self::MalformedToken(malformed) => {
                tracing::debug!(%malformed, "a credential is refused")
            }
            Self::MissingToken => tracing::trace!("a request without a bearer token is refused"),
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

/// Whole seconds, rounded up, at least one (RFC 9110 §10.2.3).
fn retry_after(error: &VerifyError) -> HeaderValue {
    let pause = error.retry_after().unwrap_or(DEFAULT_RETRY_AFTER).min(LONGEST_RETRY_AFTER);
    HeaderValue::from(pause.as_secs().saturating_add(u64::from(pause.subsec_nanos() > 0)).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(rejection: &Rejection) -> String {
        let response = rejection.response(&"the realm".into());
        response.headers()[header::WWW_AUTHENTICATE].to_str().unwrap().to_owned()
    }

    #[test]
    fn the_challenge_is_that_of_rfc_6750() {
        assert_eq!(challenge(&Rejection::MissingToken), "Bearer realm=\"the realm\"");
        assert_eq!(
            challenge(&Rejection::InvalidToken(RejectReason::Expired)),
            "Bearer realm=\"the realm\", error=\"invalid_token\", error_description=\"the bearer token is not accepted\""
        );
        assert!(
            challenge(&Rejection::MalformedToken(MalformedToken::Duplicate))
                .contains("error=\"invalid_request\"")
        );
    }

    #[test]
    fn trouble_of_ours_has_a_retry_after_in_whole_seconds_and_no_challenge() {
        let error = VerifyError::new(VerifyErrorKind::Unavailable, "down");
        for (pause, header) in [
            (None, "1"),
            (Some(0), "1"),
            (Some(1_001), "2"),
            (Some(3_000), "3"),
            (Some(u64::MAX), "60"),
        ] {
            let error = pause.map_or(error.clone(), |pause| {
                error.clone().with_retry_after(Duration::from_millis(pause))
            });
            let response = Rejection::Unavailable(error).response(&"realm".into());
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(response.headers()[header::RETRY_AFTER], header);
            assert!(!response.headers().contains_key(header::WWW_AUTHENTICATE));
        }
    }
}
