//! `serve_stale`: an accepted token past its TTL while the verifier fails.

use std::{sync::Arc, time::Duration};

use axum::http::StatusCode;
use tower_kube_auth::error::{VerifyError, VerifyErrorKind};

use crate::support::{Behavior, FakeVerifier, Service, bearer, idle, token};

const GRACE: Duration = Duration::from_secs(600);

/// Returns a service that accepted a token whose TTL has ended.
async fn a_caller_past_the_ttl(verifier: &FakeVerifier) -> Service {
    let service = Service::new(&verifier.builder().serve_stale(GRACE).build().unwrap());
    assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
    verifier.advance(67.0);
    service
}

#[tokio::test]
async fn a_stale_token_is_served_until_the_grace_period_ends() {
    let verifier = FakeVerifier::new(Behavior::Accept);
    let service = a_caller_past_the_ttl(&verifier).await;
    verifier.set(Behavior::Fail);
    // 67 s have passed. The TTL and the grace period together last 654 to 666 s.
    for _ in 0..58 {
        for _ in 0..3 {
            assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
            idle().await;
        }
        verifier.advance(10.0);
    }
    assert!(verifier.calls() < 2 + 2 * 58, "at most one attempt a second: {}", verifier.calls());
    verifier.advance(20.0);
    let rejected = service.blocked(bearer(&token("a"))).await;
    assert_eq!(rejected.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((rejected.header("retry-after"), rejected.challenge()), (Some("1"), None));
}

#[tokio::test]
async fn a_stale_token_is_never_served_past_exp() {
    let verifier = FakeVerifier::new(Behavior::Accept);
    verifier.set(Behavior::AcceptUntil(verifier.clock.clock().wall() + Duration::from_secs(200)));
    let service = a_caller_past_the_ttl(&verifier).await;
    verifier.set(Behavior::Fail);
    verifier.advance(132.0);
    assert_eq!(service.get(&token("a")).await.status, StatusCode::OK, "a second before exp");
    verifier.advance(1.0);
    assert_eq!(service.blocked(bearer(&token("a"))).await.status, StatusCode::SERVICE_UNAVAILABLE);
    verifier.clock.jump_back(Duration::from_secs(3600));
    assert_eq!(
        service.get(&token("a")).await.status,
        StatusCode::OK,
        "before exp by the corrected clock"
    );
    verifier.clock.jump_forward(Duration::from_secs(7200));
    assert_eq!(service.blocked(bearer(&token("a"))).await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_rejection_ends_stale_serving_at_once() {
    let verifier = FakeVerifier::new(Behavior::Accept);
    let service = a_caller_past_the_ttl(&verifier).await;
    verifier.set(Behavior::Fail);
    assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
    verifier.set(Behavior::Reject);
    verifier.advance(1.0);
    assert_eq!(service.get(&token("a")).await.status, StatusCode::OK, "not known yet");
    idle().await;
    assert_eq!(service.blocked(bearer(&token("a"))).await.status, StatusCode::UNAUTHORIZED);
    verifier.set(Behavior::Fail);
    verifier.advance(12.0);
    assert_eq!(
        service.blocked(bearer(&token("a"))).await.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "the stale entry is gone"
    );
}

#[tokio::test]
async fn a_caller_waits_for_the_answer_while_no_failure_is_known() {
    let verifier = FakeVerifier::new(Behavior::Accept);
    let service = a_caller_past_the_ttl(&verifier).await;
    verifier.set(Behavior::Reject);
    assert_eq!(
        service.blocked(bearer(&token("a"))).await.status,
        StatusCode::UNAUTHORIZED,
        "verified before it is served"
    );
}

#[tokio::test]
async fn an_old_failure_does_not_count() {
    let verifier = FakeVerifier::new(Behavior::Accept);
    let limit = Duration::from_secs(24 * 3600);
    let service = Service::new(
        &verifier.builder().serve_stale(GRACE).verification_timeout(limit).build().unwrap(),
    );
    service.get(&token("a")).await;
    verifier.advance(67.0);
    verifier.set(Behavior::Fail);
    assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
    verifier.set(Behavior::Reject);
    verifier.advance(22.0);
    assert_eq!(
        service.blocked(bearer(&token("a"))).await.status,
        StatusCode::UNAUTHORIZED,
        "verified before it is served"
    );
}

#[tokio::test]
async fn while_the_verifier_hangs_only_the_first_caller_waits() {
    let verifier = FakeVerifier::new(Behavior::Accept);
    let service = a_caller_past_the_ttl(&verifier).await;
    verifier.set(Behavior::Hang);
    let first = service.spawn_get(&token("a"));
    verifier.wait_for_calls(2).await;
    idle().await;
    assert!(!first.is_finished());
    verifier.advance(15.0);
    assert_eq!(first.await.unwrap().status, StatusCode::OK);
    for second in 0..60 {
        assert_eq!(service.get(&token("a")).await.status, StatusCode::OK, "second {second}");
        idle().await;
        verifier.advance(1.0);
        idle().await;
    }
    assert!(verifier.calls() <= 2 + 60 / 15 + 1, "one attempt at a time: {}", verifier.calls());
}

#[tokio::test]
async fn stale_serving_ends_when_the_verifier_recovers() {
    let verifier = FakeVerifier::new(Behavior::Accept);
    let authenticator = verifier.builder().serve_stale(GRACE).build().unwrap();
    let service = Service::new(&authenticator);
    service.get(&token("a")).await;
    verifier.advance(67.0);
    verifier.set(Behavior::Fail);
    assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
    assert_eq!(authenticator.metrics().served_stale, 1);
    verifier.set(Behavior::Accept);
    verifier.advance(1.0);
    assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
    idle().await;
    assert_eq!(authenticator.metrics().served_stale, 2);
    for _ in 0..40 {
        assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
        verifier.advance(1.0);
    }
    assert_eq!(
        (authenticator.metrics().served_stale, verifier.calls()),
        (2, 3),
        "the entry is fresh again"
    );
}

#[tokio::test]
async fn unknown_tokens_are_not_served_during_a_failure() {
    let verifier = FakeVerifier::new(Behavior::Accept);
    let service = a_caller_past_the_ttl(&verifier).await;
    verifier.set(Behavior::Fail);
    assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
    assert_eq!(service.blocked(bearer(&token("b"))).await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn an_inconclusive_answer_opens_the_grace_period_only_during_an_outage() {
    let verifier = FakeVerifier::new(Behavior::Accept);
    let service = a_caller_past_the_ttl(&verifier).await;
    let inconclusive = Behavior::Script(Arc::new(|_| {
        let error = VerifyError::new(VerifyErrorKind::Inconclusive, "the key may be newer");
        Box::pin(std::future::ready(Err(error)))
    }));
    let undecided = async |name: &str| {
        let answer = service.blocked(bearer(&token(name))).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{name}");
    };
    verifier.set(inconclusive.clone());
    undecided("a").await;
    verifier.set(Behavior::Fail);
    undecided("other").await;
    verifier.set(inconclusive);
    assert_eq!(service.get(&token("a")).await.status, StatusCode::OK, "the backend is failing");
    verifier.advance(21.0);
    undecided("another").await;
    undecided("a").await;
}

#[tokio::test]
async fn saturation_does_not_open_the_grace_period() {
    let verifier = FakeVerifier::new(Behavior::Accept);
    let builder = verifier.builder().serve_stale(GRACE).max_in_flight(2);
    let service = Service::new(&builder.build().unwrap());
    for name in ["a", "b"] {
        assert_eq!(service.get(&token(name)).await.status, StatusCode::OK);
    }
    verifier.advance(67.0);
    verifier.set(Behavior::Hang);
    let get = |name: &str| service.spawn_get(&token(name));
    // One holds the shared permit, the other one the reserved one.
    let (junk, known) = (get("junk"), get("b"));
    verifier.wait_for_calls(4).await;
    let waiting = get("a");
    idle().await;
    verifier.advance(1.0);
    assert_eq!(waiting.await.unwrap().status, StatusCode::SERVICE_UNAVAILABLE);
    verifier.resume(Behavior::Reject);
    for request in [junk, known] {
        assert_eq!(request.await.unwrap().status, StatusCode::UNAUTHORIZED);
    }
}
