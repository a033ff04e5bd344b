//! Refresh-ahead: a regular caller's token is verified again before its TTL ends.

use std::time::Duration;

use axum::http::StatusCode;
use tokio::runtime::Handle;

use crate::support::{Behavior, FakeVerifier, Service, bearer, idle, token, until};

/// Seconds: past 80 % of the longest TTL (66 s), before the end of the shortest (54 s).
const DUE: f64 = 53.0;

#[tokio::test]
async fn a_regular_caller_never_waits_and_one_task_verifies_again() {
    let verifier = FakeVerifier::new(Behavior::Accept);
    let authenticator = verifier.builder().build().unwrap();
    let service = Service::new(&authenticator);
    assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
    for round in 2..=5 {
        verifier.set(Behavior::Hang);
        verifier.advance(DUE);
        for _ in 0..100 {
            assert_eq!(
                service.get(&token("a")).await.status,
                StatusCode::OK,
                "while the verifier hangs"
            );
        }
        idle().await;
        assert_eq!(verifier.calls(), round);
        verifier.resume(Behavior::Accept);
        idle().await;
    }
    assert_eq!(authenticator.metrics().refreshed_ahead, 4);
    assert_eq!((authenticator.metrics().coalesced, authenticator.metrics().in_flight), (0, 0));
}

#[tokio::test]
async fn before_80_percent_and_without_a_caller_nothing_is_refreshed() {
    let verifier = FakeVerifier::new(Behavior::Accept);
    let service = Service::new(&verifier.builder().build().unwrap());
    service.get(&token("regular")).await;
    service.get(&token("gone")).await;
    for _ in 0..43 {
        verifier.advance(1.0);
        assert_eq!(service.get(&token("regular")).await.status, StatusCode::OK);
    }
    idle().await;
    assert_eq!(verifier.calls(), 2, "43 s are below 80 % of the shortest TTL");
    verifier.advance(10.0);
    service.get(&token("regular")).await;
    idle().await;
    assert_eq!(verifier.calls(), 3);
}

#[tokio::test]
async fn a_rejection_by_the_refresh_applies_at_once() {
    let verifier = FakeVerifier::new(Behavior::Accept);
    let service = Service::new(&verifier.builder().build().unwrap());
    service.get(&token("a")).await;
    verifier.set(Behavior::Reject);
    verifier.advance(DUE);
    assert_eq!(service.get(&token("a")).await.status, StatusCode::OK, "not known yet");
    idle().await;
    let rejected = service.blocked(bearer(&token("a"))).await;
    assert_eq!(rejected.status, StatusCode::UNAUTHORIZED);
    assert!(rejected.challenge().unwrap().contains("invalid_token"));
    assert_eq!(verifier.calls(), 2, "the rejection is cached");
}

#[tokio::test]
async fn a_failing_refresh_is_retried_once_a_second_until_the_ttl_ends() {
    let verifier = FakeVerifier::new(Behavior::Accept);
    let service = Service::new(&verifier.builder().build().unwrap());
    service.get(&token("a")).await;
    verifier.set(Behavior::Fail);
    verifier.advance(DUE);
    for _ in 0..9 {
        verifier.advance(0.1);
        for _ in 0..10 {
            assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
            idle().await;
        }
    }
    assert!(
        (2..=3).contains(&verifier.calls()),
        "at most one attempt in each second: {}",
        verifier.calls()
    );
    verifier.advance(13.0);
    let rejected = service.blocked(bearer(&token("a"))).await;
    assert_eq!(rejected.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(rejected.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn a_refresh_respects_the_retry_after_of_the_verifier() {
    let verifier = FakeVerifier::new(Behavior::Accept);
    let service =
        Service::new(&verifier.builder().cache_ttl(Duration::from_secs(600)).build().unwrap());
    service.get(&token("a")).await;
    verifier.set(Behavior::FailWithRetryAfter(Duration::from_secs(5)));
    verifier.advance(530.0);
    service.get(&token("a")).await;
    idle().await;
    assert_eq!(verifier.calls(), 2);
    for _ in 0..4 {
        verifier.advance(1.0);
        assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
        idle().await;
    }
    assert_eq!(verifier.calls(), 2);
    verifier.advance(1.0);
    service.get(&token("a")).await;
    idle().await;
    assert_eq!(verifier.calls(), 3);
}

#[tokio::test]
async fn a_token_about_to_expire_is_not_refreshed() {
    let verifier = FakeVerifier::new(Behavior::Accept);
    let expiry = verifier.clock.clock().wall() + Duration::from_secs(40);
    verifier.set(Behavior::AcceptUntil(expiry));
    let service = Service::new(&verifier.builder().build().unwrap());
    service.get(&token("a")).await;
    for _ in 0..39 {
        verifier.advance(1.0);
        assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
        idle().await;
    }
    assert_eq!(verifier.calls(), 1);
}

#[tokio::test]
async fn refreshes_leave_capacity_for_callers_who_wait() {
    let verifier = FakeVerifier::new(Behavior::Accept);
    let authenticator = verifier.builder().max_in_flight(4).build().unwrap();
    let service = Service::new(&authenticator);
    for name in ["a", "b", "c", "d"] {
        service.get(&token(name)).await;
    }
    verifier.set(Behavior::Hang);
    verifier.advance(DUE);
    for name in ["a", "b", "c", "d"] {
        assert_eq!(service.get(&token(name)).await.status, StatusCode::OK);
    }
    idle().await;
    assert_eq!((verifier.calls(), authenticator.metrics().in_flight), (4 + 2, 2));
    let newcomer = tokio::spawn({
        let service = service.clone();
        async move { service.get(&token("e")).await.status }
    });
    until("the newcomer is in flight", async || authenticator.metrics().in_flight == 3).await;
    verifier.resume(Behavior::Accept);
    assert_eq!(newcomer.await.unwrap(), StatusCode::OK);
}

#[tokio::test]
async fn a_flood_of_unknown_tokens_does_not_block_a_refresh() {
    let verifier = FakeVerifier::new(Behavior::Accept);
    let authenticator = verifier.builder().max_in_flight(8).build().unwrap();
    let service = Service::new(&authenticator);
    service.get(&token("regular")).await;
    verifier.advance(DUE);
    verifier.set(Behavior::Hang);
    let strangers: Vec<_> = (0..200)
        .map(|number| {
            let service = service.clone();
            tokio::spawn(
                async move { service.get(&token(&format!("stranger-{number}"))).await.status },
            )
        })
        .collect();
    // Six of eight permits are shared, and 16 callers may wait for each of them.
    until("the queue is full", async || authenticator.metrics().waiting == 6 * 16).await;
    assert_eq!((authenticator.metrics().in_flight, verifier.calls()), (6, 1 + 6));
    assert_eq!(service.get(&token("regular")).await.status, StatusCode::OK);
    verifier.wait_for_calls(1 + 6 + 1).await;
    assert_eq!(
        (authenticator.metrics().in_flight, authenticator.metrics().refreshed_ahead),
        (7, 1)
    );
    strangers.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn dropping_the_last_handle_ends_the_tasks() {
    let verifier = FakeVerifier::new(Behavior::Accept);
    let before = Handle::current().metrics().num_alive_tasks();
    let authenticator = verifier.builder().build().unwrap();
    let service = Service::new(&authenticator);
    service.get(&token("a")).await;
    verifier.set(Behavior::Hang);
    verifier.advance(DUE);
    service.get(&token("a")).await;
    let canceled = tokio::time::timeout(Duration::ZERO, service.get(&token("b"))).await;
    assert!(canceled.is_err(), "the caller has gone, the verification continues");
    idle().await;
    assert_eq!((verifier.calls(), Handle::current().metrics().num_alive_tasks()), (3, before + 2));
    drop(service);
    idle().await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), before + 2, "one handle is left");
    drop(authenticator);
    idle().await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), before);
}
