//! Log lines of rejected requests.

use std::fmt;

use http::{HeaderMap, HeaderValue, header};
use tracing::Level;

use super::rejection::Rejection;
use crate::{
    authenticator::Authenticator,
    authorizer::{AuthorizeErrorKind, RequestHead},
    clock::Clock,
    error::VerifyErrorKind,
    identity::ServiceAccountIdentity,
    inspect::UnverifiedToken,
    verdict::RejectReason,
    warn_limit::WarnLimit,
};

/// Upper bounds for what a caller can write into one log line.
const MAX_AUDIENCES: usize = 8;
const MAX_CHARS: usize = 64;

const REPORTED: &str = "report-only: a request is let through that would be rejected";
const UNDECIDED: &str = "a bearer token could not be verified";
const UNDECIDED_ACCESS: &str = "there was no decision about what a caller may do";

/// Returns the `Authorization` header if rejections are logged in detail, which needs it.
pub(super) fn credential(headers: &HeaderMap) -> Option<HeaderValue> {
    if tracing::enabled!(Level::DEBUG) { headers.get(header::AUTHORIZATION).cloned() } else { None }
}

/// Logs a rejection. What callers can cause is logged at `debug` at most. A failure on this side is
/// logged at `warn`, but once in an interval for each kind, because every request meets it and
/// strangers must not flood the log. `credential` is the `Authorization` header.
pub(super) fn log(
    rejection: &Rejection,
    authenticator: &Authenticator,
    credential: Option<&HeaderValue>,
) {
    match rejection {
        Rejection::Unavailable(error) => match error.kind() {
            VerifyErrorKind::Saturated
            | VerifyErrorKind::RateLimited
            | VerifyErrorKind::Inconclusive => {
                tracing::debug!(kind = error.kind().as_str(), %error, "{UNDECIDED}");
            }
            kind => match authenticator.admit_warning(kind.as_str()) {
                Some(suppressed) => {
                    tracing::warn!(kind = kind.as_str(), %error, suppressed, "{UNDECIDED}");
                }
                None => tracing::debug!(kind = kind.as_str(), %error, "{UNDECIDED}"),
            },
        },
        Rejection::InvalidToken(reason @ RejectReason::Audience) => {
            tracing::debug!(
                reason = reason.as_str(),
                expected = %authenticator.audiences(),
                seen = ?SeenAudiences::of(credential),
                "a bearer token was rejected"
            );
        }
        Rejection::InvalidToken(reason) => {
            tracing::debug!(reason = reason.as_str(), "a bearer token was rejected");
        }
        Rejection::MalformedToken(malformed) => {
            tracing::debug!(%malformed, "a credential was rejected");
        }
        Rejection::MissingToken => tracing::trace!("a request without a bearer token was rejected"),
        // Only the authorize layer makes these: see `log_authorization`.
        Rejection::Forbidden(_)
        | Rejection::AuthorizationUnavailable(_)
        | Rejection::MissingAuthenticateLayer => {}
    }
}

/// Counts and logs the rejection of a request that a report-only layer lets through: at `warn` once
/// in an interval for each reason, because strangers must not flood the log.
#[cold]
pub(super) fn report(
    rejection: &Rejection,
    authenticator: &Authenticator,
    credential: Option<&HeaderValue>,
) {
    let (reason, status) = (rejection.reason(), rejection.status().as_u16());
    let Some(suppressed) = authenticator.admit_report(reason) else {
        return tracing::debug!(reason, status, "{REPORTED}: {rejection}");
    };
    match rejection {
        Rejection::InvalidToken(RejectReason::Audience) => tracing::warn!(
            reason, status, suppressed, expected = %authenticator.audiences(),
            seen = ?SeenAudiences::of(credential), "{REPORTED}: {rejection}"
        ),
        _ => tracing::warn!(reason, status, suppressed, "{REPORTED}: {rejection}"),
    }
}

/// Does for a report-only authorize layer what [`report`] does.
#[cold]
pub(super) fn report_authorization(
    rejection: &Rejection,
    caller: Option<&ServiceAccountIdentity>,
    head: RequestHead<'_>,
    report_limit: &WarnLimit,
) {
    let (reason, status) = (rejection.reason(), rejection.status().as_u16());
    let (method, path) = (head.method(), Shortened(head.uri().path()));
    let caller = caller.map(tracing::field::display);
    match report_limit.admit(reason, Clock::system().monotonic()) {
        Some(suppressed) => tracing::warn!(
            caller, %method, ?path, reason, status, suppressed, "{REPORTED}: {rejection}"
        ),
        None => tracing::debug!(caller, %method, ?path, reason, status, "{REPORTED}: {rejection}"),
    }
}

/// Logs why `caller` did not get through. The path is the caller's choice: it is escaped.
pub(super) fn log_authorization(
    rejection: &Rejection,
    caller: &ServiceAccountIdentity,
    head: RequestHead<'_>,
    warn_limit: &WarnLimit,
) {
    let (method, path) = (head.method(), Shortened(head.uri().path()));
    match rejection {
        Rejection::Forbidden(reason) => tracing::debug!(
            %caller, %method, ?path, reason = reason.as_str(), "a request was denied: {reason}"
        ),
        Rejection::AuthorizationUnavailable(error) => match error.kind() {
            AuthorizeErrorKind::Saturated | AuthorizeErrorKind::RateLimited => tracing::debug!(
                %caller, %method, ?path, kind = error.kind().as_str(), %error, "{UNDECIDED_ACCESS}"
            ),
            kind => match warn_limit.admit(kind.as_str(), Clock::system().monotonic()) {
                Some(suppressed) => tracing::warn!(
                    %caller, %method, ?path, kind = kind.as_str(), %error, suppressed,
                    "{UNDECIDED_ACCESS}"
                ),
                None => tracing::debug!(
                    %caller, %method, ?path, kind = kind.as_str(), %error, "{UNDECIDED_ACCESS}"
                ),
            },
        },
        _ => {}
    }
}

/// The audiences that a token claims: chosen by its bearer, so escaped and bounded in length.
struct SeenAudiences(Option<UnverifiedToken>);

impl SeenAudiences {
    fn of(credential: Option<&HeaderValue>) -> Self {
        let token = credential.and_then(|value| value.to_str().ok()?.split_once(' '));
        Self(token.and_then(|(_, token)| UnverifiedToken::decode(token).ok()))
    }
}

impl fmt::Debug for SeenAudiences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let audiences = self.0.as_ref().map(UnverifiedToken::audiences).unwrap_or_default();
        let mut list = f.debug_list();
        list.entries(audiences.iter().take(MAX_AUDIENCES).map(|audience| Shortened(audience)));
        if audiences.len() > MAX_AUDIENCES { list.finish_non_exhaustive() } else { list.finish() }
    }
}

struct Shortened<'a>(&'a str);

impl fmt::Debug for Shortened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(MAX_CHARS) {
            Some((end, _)) => write!(f, "{:?}…", self.0.get(..end).unwrap_or_default()),
            None => fmt::Debug::fmt(self.0, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex, PoisonError},
    };

    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use http::{Request, Response, StatusCode};
    use tower::{Layer, ServiceExt, service_fn};

    use super::*;
    use crate::{
        audience::Audiences,
        authenticator::Authenticator,
        clock::manual::ManualClock,
        error::VerifyError,
        token::BearerToken,
        verdict::{Outcome, Verdict},
        verifier::Verifier,
    };

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Rejects every token for its audience, after a wait.
    struct RejectsLater;

    impl Verifier for RejectsLater {
        async fn verify(&self, _: BearerToken<'_>, _: &Audiences) -> Outcome {
            tokio::task::yield_now().await;
            Ok(Verdict::Reject(RejectReason::Audience))
        }
    }

    /// What is logged at `level` when a token for `audience` is rejected.
    async fn logged(level: Level, audience: &str) -> String {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        let _subscribed = tracing::subscriber::set_default(subscriber);
        let authenticator = Authenticator::builder(RejectsLater).audience("orders").build();
        let service = authenticator
            .unwrap()
            .layer()
            .layer(service_fn(async |_: Request<()>| Ok::<_, ()>(Response::new(()))));
        let token = token(&serde_json::json!(audience));
        let request = Request::get("/").header(header::AUTHORIZATION, &token).body(()).unwrap();
        let response = service.oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        let log = log.0.lock().unwrap_or_else(PoisonError::into_inner);
        let log = String::from_utf8_lossy(&log).into_owned();
        let claims = token.split('.').nth(1).unwrap();
        assert!(!log.contains(claims), "a token was logged");
        log
    }

    #[tokio::test]
    async fn an_audience_mismatch_is_logged_with_both_sides_at_debug_only() {
        // "payments" fails the pre-check, "orders" the verifier, which another task waits for.
        for audience in ["payments", "orders"] {
            let log = logged(Level::DEBUG, audience).await;
            assert!(log.contains("reason=\"audience\" expected=orders"), "{log}");
            assert!(log.contains(&format!("seen=[\"{audience}\"]")), "{log}");
            assert_eq!(logged(Level::INFO, audience).await, "");
        }
    }

    /// Fails for every token.
    struct Fails;

    impl Verifier for Fails {
        async fn verify(&self, _: BearerToken<'_>, _: &Audiences) -> Outcome {
            Err(VerifyError::new(VerifyErrorKind::Forbidden, "a right is missing"))
        }
    }

    #[tokio::test]
    async fn a_thousand_tokens_during_a_failure_warn_once() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::INFO)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        let _subscribed = tracing::subscriber::set_default(subscriber);
        let clock = ManualClock::new();
        let authenticator = Authenticator::builder(Fails).audience("orders").clock(clock.clock());
        let service = authenticator
            .build()
            .unwrap()
            .layer()
            .layer(service_fn(async |_: Request<()>| Ok::<_, ()>(Response::new(()))));
        let warned = || {
            let log = log.0.lock().unwrap_or_else(PoisonError::into_inner);
            String::from_utf8_lossy(&log).lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let send = async |number: u32| {
            let claims = serde_json::json!({ "aud": "orders", "number": number }).to_string();
            let token = format!("Bearer e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
            let request = Request::get("/").header(header::AUTHORIZATION, token).body(()).unwrap();
            let response = service.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        };
        for number in 0..1_000 {
            send(number).await;
        }
        assert_eq!(warned().len(), 1, "{:?}", warned().first());
        clock.advance(std::time::Duration::from_secs(10));
        send(1_000).await;
        assert_eq!(warned().len(), 2);
        assert!(warned()[1].contains("suppressed=999"), "{}", warned()[1]);
    }

    fn token(audiences: &serde_json::Value) -> String {
        let claims = serde_json::json!({ "aud": audiences, "other": "not shown" }).to_string();
        format!("Bearer e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    fn seen(audiences: &serde_json::Value) -> String {
        format!("{:?}", SeenAudiences::of(Some(&token(audiences).parse().unwrap())))
    }

    #[test]
    fn the_audiences_of_a_token_are_escaped_and_bounded() {
        assert_eq!(seen(&serde_json::json!("orders")), r#"["orders"]"#);
        assert_eq!(seen(&serde_json::json!(["a\n\u{1b}[31m\u{202e}", "b"])), {
            r#"["a\n\u{1b}[31m\u{202e}", "b"]"#
        });
        let many: Vec<_> = (0..10_000).map(|number| number.to_string()).collect();
        assert_eq!(seen(&serde_json::json!(many)), {
            r#"["0", "1", "2", "3", "4", "5", "6", "7", ..]"#
        });
        let long = "é".repeat(10_000);
        assert_eq!(seen(&serde_json::json!(long)), format!("[\"{}\"…]", "é".repeat(64)));
    }

    #[test]
    fn a_credential_without_audiences_is_logged_without() {
        assert_eq!(seen(&serde_json::Value::Null), "[]");
        for header in ["", "Bearer", "Bearer x", "Bearer a.b.c", "Basic YQ=="] {
            assert_eq!(format!("{:?}", SeenAudiences::of(Some(&header.parse().unwrap()))), "[]");
        }
    }
}
