//! The decision cache, and the options that `build` checks.

use std::time::Duration;

use axum::http::StatusCode;
use tower_kube_auth::{
    audience::InvalidAudiences,
    authenticator::AuthenticatorBuildError,
    verdict::{RejectReason, Verdict},
};

use crate::support::{Behavior, FakeVerifier, Service, accept, bearer, token};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn an_accepted_token_is_verified_once_per_ttl() {
    let verifier = FakeVerifier::accepting();
    let service = Service::new(&verifier.authenticator());
    for period in 1..=3 {
        for _ in 0..10 {
            assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
        }
        assert_eq!(verifier.calls(), period);
        verifier.advance(66.0);
    }
}

#[tokio::test]
async fn a_rejected_token_is_verified_once_per_reject_ttl() {
    let verifier = FakeVerifier::rejecting(RejectReason::Signature);
    let service = Service::new(&verifier.authenticator());
    for period in 1..=3 {
        for _ in 0..10 {
            assert_eq!(service.blocked(bearer(&token("a"))).await.status, StatusCode::UNAUTHORIZED);
        }
        assert_eq!(verifier.calls(), period);
        verifier.advance(11.0);
    }
}

#[tokio::test]
async fn a_ttl_of_zero_disables_the_cache() {
    let verifier = FakeVerifier::accepting();
    let service = Service::new(&verifier.builder().cache_ttl(Duration::ZERO).build().unwrap());
    for call in 1..=3 {
        assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
        assert_eq!(verifier.calls(), call);
    }
    let verifier = FakeVerifier::rejecting(RejectReason::Signature);
    let service = Service::new(&verifier.builder().reject_ttl(Duration::ZERO).build().unwrap());
    for call in 1..=3 {
        assert_eq!(service.get(&token("a")).await.status, StatusCode::UNAUTHORIZED);
        assert_eq!(verifier.calls(), call);
    }
}

#[tokio::test]
async fn cached_callers_are_served_in_an_outage_until_their_ttl_ends() {
    let verifier = FakeVerifier::new(Behavior::Accept);
    let service = Service::new(&verifier.authenticator());
    assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
    verifier.set(Behavior::Fail);
    assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
    verifier.advance(120.0);
    assert_eq!(service.get(&token("a")).await.status, StatusCode::SERVICE_UNAVAILABLE);
    verifier.set(Behavior::Accept);
    assert_eq!(service.get(&token("a")).await.status, StatusCode::OK, "recovery by itself");
}

#[tokio::test]
async fn nothing_is_served_past_exp() {
    let verifier = FakeVerifier::new(Behavior::Accept);
    let expiry = verifier.clock.clock().wall() + Duration::from_secs(20);
    verifier.set(Behavior::AcceptUntil(expiry));
    let service = Service::new(&verifier.authenticator());
    assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
    verifier.advance(20.0);
    verifier.set(Behavior::Reject);
    assert_eq!(service.blocked(bearer(&token("a"))).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_flood_of_junk_evicts_no_accepted_caller() {
    let verifier = FakeVerifier::scripted(|text| async move {
        Ok(if text == token("good") { accept() } else { Verdict::Reject(RejectReason::Signature) })
    });
    let authenticator =
        verifier.builder().cache_capacity(100).reject_capacity(100).build().unwrap();
    let service = Service::new(&authenticator);
    assert_eq!(service.get(&token("good")).await.status, StatusCode::OK);
    for junk in 0..5_000 {
        assert_eq!(service.get(&token(&junk.to_string())).await.status, StatusCode::UNAUTHORIZED);
    }
    let calls = verifier.calls();
    assert_eq!(service.get(&token("good")).await.status, StatusCode::OK);
    assert_eq!(verifier.calls(), calls, "still cached");
}

#[tokio::test]
async fn layers_share_the_cache_of_their_authenticator_only() {
    let verifier = FakeVerifier::accepting();
    let authenticator = verifier.authenticator();
    Service::new(&authenticator).get(&token("a")).await;
    Service::new(&authenticator.clone()).get(&token("a")).await;
    assert_eq!(verifier.calls(), 1);
    Service::new(&verifier.authenticator()).get(&token("a")).await;
    assert_eq!(verifier.calls(), 2);
}

#[test]
fn each_invalid_option_is_a_build_error_that_says_what_to_do() {
    let without_audience = || tower_kube_auth::Authenticator::builder(FakeVerifier::accepting());
    let with = || FakeVerifier::accepting().builder();
    let cases = [
        (
            without_audience().build(),
            AuthenticatorBuildError::Audiences(InvalidAudiences::None),
            ".audience(",
        ),
        (
            without_audience().audience("").build(),
            AuthenticatorBuildError::Audiences(InvalidAudiences::Empty),
            "environment variable",
        ),
        (
            with().audience("a ").build(),
            AuthenticatorBuildError::Audiences(InvalidAudiences::Padded("a ".into())),
            "trim",
        ),
        (
            with().dangerous_accept_any_audience().build(),
            AuthenticatorBuildError::AnyAndSomeAudiences,
            "contradict",
        ),
        (
            with().dangerous_accept_any_audience().api_server_audience().build(),
            AuthenticatorBuildError::AnyAndSomeAudiences,
            "contradict",
        ),
        (
            with().api_server_audience().build(),
            AuthenticatorBuildError::ApiServerAndOtherAudiences,
            "an authenticator for each",
        ),
        (
            without_audience().api_server_audience().build(),
            AuthenticatorBuildError::ApiServerAudienceUnsupported,
            "JwksBuilder::api_server_audience",
        ),
        (with().issuer("").build(), AuthenticatorBuildError::EmptyIssuer, "environment variable"),
        (
            with().cache_capacity(0).build(),
            AuthenticatorBuildError::Zero("cache_capacity"),
            "TTL to zero",
        ),
        (
            with().reject_capacity(0).build(),
            AuthenticatorBuildError::Zero("reject_capacity"),
            "TTL to zero",
        ),
        (
            with().max_in_flight(0).build(),
            AuthenticatorBuildError::Zero("max_in_flight"),
            "positive",
        ),
        (with().max_in_flight(1).build(), AuthenticatorBuildError::NoReservedPermit, "at least 2"),
        (
            with().max_in_flight(usize::MAX).build(),
            AuthenticatorBuildError::TooLarge("max_in_flight"),
            "unit",
        ),
        (
            with().max_token_length(0).build(),
            AuthenticatorBuildError::Zero("max_token_length"),
            "positive",
        ),
        (
            with().max_token_length(usize::MAX).build(),
            AuthenticatorBuildError::TooLarge("max_token_length"),
            "unit",
        ),
        (
            with().verification_timeout(Duration::ZERO).build(),
            AuthenticatorBuildError::Zero("verification_timeout"),
            "positive",
        ),
        (with().max_wait(MINUTE).build(), AuthenticatorBuildError::WaitBeyondTimeout, "shorter"),
        (
            with().cache_ttl(MINUTE * 61).build(),
            AuthenticatorBuildError::TooLong {
                option: "cache_ttl",
                ttl: MINUTE * 61,
                limit: MINUTE * 60,
            },
            "revoked",
        ),
        (
            with().serve_stale(MINUTE * 60 * 25).build(),
            AuthenticatorBuildError::TooLong {
                option: "serve_stale",
                ttl: MINUTE * 60 * 25,
                limit: MINUTE * 60 * 24,
            },
            "revoked",
        ),
        (
            with().cache_ttl(Duration::ZERO).serve_stale(MINUTE).build(),
            AuthenticatorBuildError::StaleWithoutCache,
            "positive cache_ttl",
        ),
        (
            with().realm("a\"b").build(),
            AuthenticatorBuildError::Realm("a\"b".into()),
            "visible ASCII",
        ),
        (with().realm("").build(), AuthenticatorBuildError::Realm(String::new()), "visible ASCII"),
        (
            with().realm("a\r\nSet-Cookie: b").build(),
            AuthenticatorBuildError::Realm("a\r\nSet-Cookie: b".into()),
            "visible ASCII",
        ),
    ];
    for (built, expected, advice) in cases {
        let error = built.unwrap_err();
        assert_eq!(error, expected);
        assert!(error.to_string().contains(advice), "{error}");
    }
    assert!(without_audience().dangerous_accept_any_audience().build().is_ok());
}
