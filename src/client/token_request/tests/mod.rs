//! TokenRequest against a fake API server in the same process. The crate's `tests/` folder has the
//! embedded cluster and a real one.

mod own_mount;
mod soak;

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::StatusCode;
use serde_json::{Value, json};

use super::*;
use crate::{
    api_server::fake::{FakeApiServer, Reply},
    audience::InvalidAudiences,
    client::{TokenErrorKind, TokenSource},
    clock::{Clock, manual::ManualClock},
};

const HOUR: Duration = Duration::from_secs(3600);

/// Grants tokens, or gives the answer that a test sets.
#[derive(Clone)]
pub(super) struct TokenIssuer {
    api_server: FakeApiServer,
    answer: Arc<Mutex<Option<Reply>>>,
    clock: Clock,
}

impl TokenIssuer {
    pub(super) fn new(clock: &Clock) -> Self {
        let answer = Arc::<Mutex<Option<Reply>>>::default();
        let (set, time, mut calls) = (answer.clone(), clock.clone(), 0);
        let api_server = FakeApiServer::new(move |_, asked| {
            calls += 1;
            if let Some(reply) = set.lock().unwrap().clone() {
                return reply;
            }
            let seconds = asked["spec"]["expirationSeconds"].as_u64().unwrap();
            let end = time.wall() + Duration::from_secs(seconds);
            Reply::new(StatusCode::CREATED, granted(&format!("token-{calls}"), seconds, end))
        });
        Self { api_server, answer, clock: clock.clone() }
    }

    pub(super) fn builder(&self) -> TokenRequestBuilder {
        TokenRequestSource::builder(self.api_server.api_server()).clock(self.clock.clone())
    }

    pub(super) fn answer_with(&self, status: StatusCode, body: Value) {
        *self.answer.lock().unwrap() = Some(Reply::new(status, body));
    }

    pub(super) fn answer_rightly(&self) {
        *self.answer.lock().unwrap() = None;
    }

    pub(super) fn calls(&self) -> u32 {
        self.api_server.calls()
    }

    fn seen(&self) -> Vec<(String, Value)> {
        self.api_server.seen()
    }
}

fn granted(token: &str, seconds: u64, end: SystemTime) -> Value {
    let end = jiff::Timestamp::try_from(end).unwrap().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    json!({
        "kind": "TokenRequest",
        "spec": { "expirationSeconds": seconds },
        "status": { "token": token, "expirationTimestamp": end },
    })
}

fn orders(fake: &TokenIssuer) -> TokenRequestBuilder {
    fake.builder().namespace("shop").service_account("checkout").audience("orders")
}

async fn secret(source: &TokenRequestSource) -> String {
    source.token().await.unwrap().expose_secret().to_owned()
}

/// Advances the clock and lets every task run.
async fn advance(clock: &ManualClock, duration: Duration) {
    clock.advance(duration);
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn the_request_has_the_configured_options() {
    let fake = TokenIssuer::new(&Clock::system());
    let source = orders(&fake)
        .audience("stock")
        .expires_in(HOUR * 2)
        .bound_to(BoundObjectRef::pod("p").uid("u"));
    let source = source.build().unwrap();
    secret(&source).await;
    let expected = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {
            "audiences": ["orders", "stock"],
            "expirationSeconds": 7200,
            "boundObjectRef": { "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u" },
        },
    });
    let path = "/api/v1/namespaces/shop/serviceaccounts/checkout/token".to_owned();
    assert_eq!(fake.seen(), [(path, expected)]);
}

#[tokio::test]
async fn expiration_seconds_outside_600_to_2_to_the_32_fail_in_build() {
    let fake = TokenIssuer::new(&Clock::system());
    for (seconds, good) in
        [(0, false), (599, false), (600, true), (1 << 32, true), ((1 << 32) + 1, false)]
    {
        let built = orders(&fake).expires_in(Duration::from_secs(seconds)).build();
        assert_eq!(built.is_ok(), good, "{seconds}");
        if let Err(error) = built {
            assert_eq!(error, TokenRequestBuildError::Lifetime(Duration::from_secs(seconds)));
        }
    }
    assert_eq!(fake.calls(), 0);
}

#[tokio::test]
async fn without_an_audience_it_is_not_built() {
    let fake = TokenIssuer::new(&Clock::system());
    let none = TokenRequestBuildError::Audiences(InvalidAudiences::None);
    assert_eq!(fake.builder().build().unwrap_err(), none);
    let empty = TokenRequestBuildError::Audiences(InvalidAudiences::Empty);
    assert_eq!(fake.builder().audience("").build().unwrap_err(), empty);
    let both = fake.builder().audience("a").dangerous_api_server_audience().build().unwrap_err();
    assert_eq!(both, TokenRequestBuildError::ApiServerAndOtherAudiences);
}

#[tokio::test]
async fn names_that_would_change_the_path_are_rejected() {
    let fake = TokenIssuer::new(&Clock::system());
    for bad in ["", "..", "a/b", "A", "a b", "a%2fb", "a?b", "a\u{e9}"] {
        assert!(orders(&fake).namespace(bad).build().is_err(), "{bad:?}");
        assert!(orders(&fake).service_account(bad).build().is_err(), "{bad:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_is_refreshed_at_80_percent_by_one_request_and_none_in_between() {
    let clock = ManualClock::new();
    let fake = TokenIssuer::new(&clock.clock());
    let source = orders(&fake).build().unwrap();
    for window in 1..=5 {
        for _ in 0..1000 {
            assert_eq!(secret(&source).await, format!("token-{window}"));
        }
        assert_eq!(fake.calls(), window);
        advance(&clock, HOUR.mul_f64(0.75)).await;
        assert_eq!(fake.calls(), window, "not yet");
        advance(&clock, HOUR.mul_f64(0.051)).await;
        assert_eq!(fake.calls(), window + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_is_refreshed_after_24_hours_even_if_it_lives_for_a_year() {
    let clock = ManualClock::new();
    let fake = TokenIssuer::new(&clock.clock());
    let source = orders(&fake).expires_in(HOUR * 24 * 365).build().unwrap();
    secret(&source).await;
    advance(&clock, HOUR * 22).await;
    assert_eq!(fake.calls(), 1);
    advance(&clock, HOUR * 2).await;
    assert_eq!(fake.calls(), 2);
}

/// The API server extends `exp` of a 3607 s token to a year, but not `status.expirationTimestamp`.
#[tokio::test(start_paused = true)]
async fn the_lifetime_is_that_of_the_status_and_not_of_exp() {
    let clock = ManualClock::new();
    let fake = TokenIssuer::new(&clock.clock());
    let source = orders(&fake).expires_in(Duration::from_secs(3607)).build().unwrap();
    let now = clock.clock().wall();
    let in_a_year =
        (now + HOUR * 24 * 365).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let claims = URL_SAFE_NO_PAD.encode(json!({ "exp": in_a_year }).to_string());
    fake.answer_with(
        StatusCode::CREATED,
        granted(&format!("e30.{claims}.c2ln"), 3607, now + Duration::from_secs(3607)),
    );
    let token = source.token().await.unwrap();
    let left = token.expires_at().unwrap().duration_since(now).unwrap();
    assert!((3606..=3607).contains(&left.as_secs()), "{left:?}");
    advance(&clock, HOUR.mul_f64(0.81)).await;
    assert_eq!(fake.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_server_may_shorten_the_life() {
    let clock = ManualClock::new();
    let fake = TokenIssuer::new(&clock.clock());
    let source = orders(&fake).expires_in(HOUR * 24).build().unwrap();
    fake.answer_with(StatusCode::CREATED, granted("short", 3600, clock.clock().wall() + HOUR));
    secret(&source).await;
    advance(&clock, HOUR.mul_f64(0.81)).await;
    assert_eq!(fake.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_clock_behind_the_servers_does_not_make_the_life_longer() {
    let clock = ManualClock::new();
    let fake = TokenIssuer::new(&clock.clock());
    let source = orders(&fake).build().unwrap();
    // By the server's clock it expires in an hour; the local clock is three hours behind.
    let end = clock.clock().wall() + HOUR * 4;
    fake.answer_with(StatusCode::CREATED, granted("token", 3600, end));
    let token = source.token().await.unwrap();
    assert!(token.expires_at().unwrap() <= clock.clock().wall() + HOUR);
    advance(&clock, HOUR.mul_f64(0.81)).await;
    assert_eq!(fake.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn on_failure_the_old_token_is_kept_until_it_expires() {
    let clock = ManualClock::new();
    let fake = TokenIssuer::new(&clock.clock());
    let source = orders(&fake).build().unwrap();
    secret(&source).await;
    fake.answer_with(StatusCode::FORBIDDEN, json!({}));
    for _ in 0..59 {
        advance(&clock, HOUR / 60).await;
        assert_eq!(secret(&source).await, "token-1");
    }
    assert!(fake.calls() <= 16, "{}", fake.calls());
    advance(&clock, HOUR / 60).await;
    assert_eq!(source.token().await.unwrap_err().kind(), TokenErrorKind::Forbidden);
    fake.answer_rightly();
    advance(&clock, HOUR / 60).await;
    assert!(secret(&source).await.starts_with("token-"));
}

#[tokio::test(start_paused = true)]
async fn a_403_names_the_missing_right_and_the_manifest_that_grants_it() {
    let fake = TokenIssuer::new(&Clock::system());
    let message = "serviceaccounts \"checkout\" is forbidden: User \"x\" cannot create resource \
                   \"serviceaccounts/token\"";
    fake.answer_with(StatusCode::FORBIDDEN, json!({ "kind": "Status", "message": message }));
    let error = orders(&fake).build().unwrap().token().await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Forbidden);
    for part in [
        "`create`",
        "`serviceaccounts/token`",
        "examples/kubernetes/client-token-request.yaml",
        message,
    ] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert!(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("examples/kubernetes/client-token-request.yaml")
            .exists()
    );
}

#[tokio::test(start_paused = true)]
async fn each_error_status_has_its_kind_and_the_servers_message() {
    let cases = [
        (400, TokenErrorKind::InvalidRequest, 1),
        (401, TokenErrorKind::Unauthenticated, 1),
        (403, TokenErrorKind::Forbidden, 1),
        (404, TokenErrorKind::InvalidRequest, 1),
        (409, TokenErrorKind::InvalidRequest, 1),
        (422, TokenErrorKind::InvalidRequest, 1),
        (429, TokenErrorKind::RateLimited, 5),
        (500, TokenErrorKind::Unavailable, 5),
    ];
    for (status, kind, calls) in cases {
        let clock = ManualClock::new();
        let fake = TokenIssuer::new(&clock.clock());
        fake.answer_with(
            StatusCode::from_u16(status).unwrap(),
            json!({ "message": "the server's message" }),
        );
        let source = orders(&fake).build().unwrap();
        let asking = tokio::spawn(async move { source.token().await });
        while !asking.is_finished() {
            advance(&clock, Duration::from_millis(100)).await;
        }
        let error = asking.await.unwrap().unwrap_err();
        assert_eq!((error.kind(), fake.calls()), (kind, calls), "{status}");
        assert_eq!(
            error.to_string().contains("the server's message"),
            kind == TokenErrorKind::InvalidRequest || status == 403
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_a_usable_token_is_an_error() {
    let clock = ManualClock::new();
    let end = clock.clock().wall() + HOUR;
    let mut no_time = granted("secret-token", 3600, end);
    no_time["status"]["expirationTimestamp"] = json!("tomorrow");
    for body in [
        json!({}),
        json!([]),
        json!({ "status": null }),
        granted("", 1, end),
        granted("a b", 1, end),
        no_time,
    ] {
        let fake = TokenIssuer::new(&clock.clock());
        fake.answer_with(StatusCode::CREATED, body);
        let error = orders(&fake).build().unwrap().token().await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::InvalidResponse);
        assert!(!format!("{error:?}").contains("secret-token"));
    }
    let fake = TokenIssuer::new(&clock.clock());
    fake.answer_with(StatusCode::CREATED, granted("late", 3600, clock.clock().wall() - HOUR));
    let error = orders(&fake).build().unwrap().token().await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Expired);
}
