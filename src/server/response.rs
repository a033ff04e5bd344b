//! Responses to rejected requests, and the hook that gives them another body.

use std::time::Duration;

use http::{HeaderValue, Response, header};

use super::{rejection::Rejection, rejection_log};
use crate::authenticator::Authenticator;

/// Upper bound for `Retry-After`.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// The hook of [`map_rejection_response`](super::AuthenticateLayer::map_rejection_response), which
/// gives the response to a rejected request its body. Implemented by closures of the same
/// signature.
pub trait RejectionResponse<ResBody>: Clone {
    /// Returns `response`, which has the status and the headers of the protocol, with a body.
    fn map_response(&self, response: Response<()>, rejection: &Rejection) -> Response<ResBody>;
}

impl<F, ResBody> RejectionResponse<ResBody> for F
where
    F: Fn(Response<()>, &Rejection) -> Response<ResBody> + Clone,
{
    fn map_response(&self, response: Response<()>, rejection: &Rejection) -> Response<ResBody> {
        self(response, rejection)
    }
}

/// The default body: a line of text for axum's `Body` (with the `axum` feature), otherwise empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct DefaultRejectionResponse;

impl<ResBody: Default + 'static> RejectionResponse<ResBody> for DefaultRejectionResponse {
    fn map_response(&self, response: Response<()>, rejection: &Rejection) -> Response<ResBody> {
        let mut response = response.map(|()| ResBody::default());
        if !response.headers().contains_key("grpc-status") {
            write_text(&mut response, rejection.body_text());
        }
        response
    }
}

/// Any other body type is known to be `Default` only, which cannot hold a text.
#[cfg(feature = "axum")]
fn write_text<ResBody: 'static>(response: &mut Response<ResBody>, text: &'static str) {
    use std::any::Any;

    if let Some(body) =
        (response.body_mut() as &mut dyn Any).downcast_mut::<axum_core::body::Body>()
    {
        *body = text.into();
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    }
}

#[cfg(not(feature = "axum"))]
fn write_text<ResBody: 'static>(_: &mut Response<ResBody>, _: &'static str) {}

/// Logs `rejection` and builds the response to it. `credential` is the `Authorization` header, for
/// the log only.
pub(super) fn reject<R, ResBody>(
    rejection_response: &R,
    authenticator: &Authenticator,
    is_grpc: bool,
    credential: Option<&HeaderValue>,
    rejection: &Rejection,
) -> Response<ResBody>
where
    R: RejectionResponse<ResBody>,
{
    rejection_log::log(rejection, authenticator, credential);
    respond(rejection_response, is_grpc, Some(authenticator.realm()), rejection)
}

/// Builds the response to `rejection`.
pub(super) fn respond<R, ResBody>(
    rejection_response: &R,
    is_grpc: bool,
    realm: Option<&str>,
    rejection: &Rejection,
) -> Response<ResBody>
where
    R: RejectionResponse<ResBody>,
{
    let response = if is_grpc { grpc_response(rejection) } else { http_response(rejection, realm) };
    rejection_response.map_response(response, rejection)
}

/// Returns status and headers of the HTTP response.
pub(super) fn http_response(rejection: &Rejection, realm: Option<&str>) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = rejection.status();
    let headers = response.headers_mut();
    if let Some(pause) = rejection.retry_after() {
        headers.insert(header::RETRY_AFTER, retry_after(pause));
    } else if rejection.status().is_client_error()
        && let Ok(challenge) = HeaderValue::try_from(challenge(rejection, realm))
    {
        headers.insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

/// Returns a trailers-only response, the gRPC form of an error before the first message. Its HTTP
/// status is 200.
fn grpc_response(rejection: &Rejection) -> Response<()> {
    let mut response = Response::new(());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from(u16::from(rejection.grpc_code())));
    headers.insert("grpc-message", HeaderValue::from_static(rejection.body_text()));
    if let Some(pause) = rejection.retry_after() {
        headers.insert(header::RETRY_AFTER, retry_after(pause));
    }
    response
}

/// Without a realm where none is known: RFC 6750 §3 does not require one.
fn challenge(rejection: &Rejection, realm: Option<&str>) -> String {
    // `build()` has checked that the realm needs no escape.
    let description = rejection.body_text();
    match (realm, rejection.error_code()) {
        (Some(realm), None) => format!("Bearer realm=\"{realm}\""),
        (Some(realm), Some(code)) => {
            format!(
                "Bearer realm=\"{realm}\", error=\"{code}\", error_description=\"{description}\""
            )
        }
        (None, Some(code)) => {
            format!("Bearer error=\"{code}\", error_description=\"{description}\"")
        }
        (None, None) => "Bearer".into(),
    }
}

/// Returns whole seconds, rounded up, at least one (RFC 9110 §10.2.3).
fn retry_after(pause: Duration) -> HeaderValue {
    let pause = pause.min(MAX_RETRY_AFTER);
    HeaderValue::from(pause.as_secs().saturating_add(u64::from(pause.subsec_nanos() > 0)).max(1))
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::{
        error::{VerifyError, VerifyErrorKind},
        token::MalformedToken,
        verdict::RejectReason,
    };

    fn challenge(rejection: &Rejection) -> String {
        let response = http_response(rejection, Some("the realm"));
        response.headers()[header::WWW_AUTHENTICATE].to_str().unwrap().to_owned()
    }

    #[test]
    fn the_challenge_is_that_of_rfc_6750() {
        assert_eq!(challenge(&Rejection::MissingToken), "Bearer realm=\"the realm\"");
        assert_eq!(
            challenge(&Rejection::InvalidToken(RejectReason::Expired)),
            "Bearer realm=\"the realm\", error=\"invalid_token\", \
             error_description=\"the bearer token is not accepted\""
        );
        assert!(
            challenge(&Rejection::MalformedToken(MalformedToken::Duplicate))
                .contains("error=\"invalid_request\"")
        );
    }

    #[test]
    fn a_failure_has_a_retry_after_in_whole_seconds_and_no_challenge() {
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
            let response = http_response(&Rejection::Unavailable(error), Some("realm"));
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(response.headers()[header::RETRY_AFTER], header);
            assert!(!response.headers().contains_key(header::WWW_AUTHENTICATE));
        }
    }
}
