//! Any bytes as `Authorization` headers, one for each line, in front of a service that must not be
//! reached.

use std::{cell::Cell, convert::Infallible};

use http::{HeaderValue, Request, Response, StatusCode, header};
use tower::{Layer, Service, service_fn};
use tower_kube_auth::{
    Authenticator, BearerToken, ServiceAccountIdentity, Verifier,
    audience::Audiences,
    error::{VerifyError, VerifyErrorKind},
    verdict::{RejectReason, Verdict},
};

use crate::{AUDIENCE, at_once, clock};

const LONGEST: usize = 1000;

/// Rejects half of all tokens and fails for the other half.
struct AcceptsNothing;

impl Verifier for AcceptsNothing {
    async fn verify(&self, token: BearerToken<'_>, _: &Audiences) -> Result<Verdict, VerifyError> {
        if token.expose_secret().len().is_multiple_of(2) {
            Ok(Verdict::Reject(RejectReason::Signature))
        } else {
            Err(VerifyError::new(VerifyErrorKind::Unavailable, "the backend is down"))
        }
    }
}

thread_local! {
    static AUTHENTICATOR: Authenticator = {
        let builder = Authenticator::builder(AcceptsNothing).audience(AUDIENCE).max_token_length(LONGEST);
        // No caches, so that a run depends only on its input.
        builder.cache_ttl(Default::default()).reject_ttl(Default::default()).clock(clock()).build().unwrap()
    };
}

pub fn check(data: &[u8]) {
    // A header cannot contain a line feed, so this excludes no input.
    let values: Option<Vec<_>> =
        data.split(|byte| *byte == b'\n').map(|line| HeaderValue::from_bytes(line).ok()).collect();
    let Some(values) = values.filter(|values| values.len() <= 3) else { return };
    let request = || {
        let mut request = Request::new(());
        for value in &values {
            request.headers_mut().append(header::AUTHORIZATION, value.clone());
        }
        request
    };
    let expected = expected(&values);

    let (response, reached) = answer(request(), false);
    assert!(!reached, "the service was reached without an accepted token");
    assert!(expected.allows(response.status()), "{} for {values:?}", response.status());
    let is_failure = response.status() == StatusCode::SERVICE_UNAVAILABLE;
    assert_eq!(response.headers().contains_key(header::RETRY_AFTER), is_failure);
    assert_eq!(response.headers().contains_key(header::WWW_AUTHENTICATE), !is_failure);

    let (response, reached) = answer(request(), true);
    assert_eq!(
        reached,
        expected == Expected::NoToken,
        "an optional layer, {} for {values:?}",
        response.status()
    );
    assert!(reached || expected.allows(response.status()));
}

/// Returns the answer and whether the inner service was reached.
fn answer(request: Request<()>, optional: bool) -> (Response<()>, bool) {
    let reached = Cell::new(false);
    let inner = service_fn(|request: Request<()>| {
        reached.set(true);
        assert!(request.extensions().get::<ServiceAccountIdentity>().is_none());
        assert!(!request.headers().contains_key(header::AUTHORIZATION));
        std::future::ready(Ok::<_, Infallible>(Response::new(())))
    });
    let layer = AUTHENTICATOR.with(Authenticator::layer);
    let layer = if optional { layer.optional() } else { layer };
    let response = at_once(layer.layer(inner).call(request)).unwrap_or_else(|never| match never {});
    (response, reached.get())
}

#[derive(PartialEq)]
enum Expected {
    NoToken,
    Malformed,
    Looked,
}

impl Expected {
    fn allows(&self, status: StatusCode) -> bool {
        match self {
            Self::NoToken => status == StatusCode::UNAUTHORIZED,
            Self::Malformed => status == StatusCode::BAD_REQUEST,
            Self::Looked => {
                status == StatusCode::UNAUTHORIZED || status == StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }
}

fn expected(values: &[HeaderValue]) -> Expected {
    let [value] = values else { return Expected::Malformed };
    let mut words = value.as_bytes().splitn(2, |byte| *byte == b' ');
    let scheme = words.next().unwrap_or_default().to_ascii_lowercase();
    match scheme.strip_prefix(b"bearer") {
        Some([]) => {}
        // The name of a scheme goes on, or "bearer" without a space.
        Some([next, ..]) if !is_tchar(*next) => return Expected::Malformed,
        _ => return Expected::NoToken,
    }
    let Some(token) = words.next().and_then(|token| std::str::from_utf8(token).ok()) else {
        return Expected::Malformed;
    };
    let body = token.trim_end_matches('=');
    let is_token68 =
        !body.is_empty() && body.chars().all(|c| c.is_ascii_alphanumeric() || "-._~+/".contains(c));
    if is_token68 && token.len() <= LONGEST { Expected::Looked } else { Expected::Malformed }
}

/// RFC 9110 §5.6.2.
fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
