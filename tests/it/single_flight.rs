//! Single flight: concurrent requests with one token share one verification.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::http::{StatusCode, header};
use tokio::sync::{Notify, Semaphore};
use tower_kube_auth::{BearerToken, error::VerifyErrorKind, testing::ManualClock};

use crate::support::{Behavior, FakeVerifier, Service, accept, bearer, idle, token, until};

/// Returns a verifier that accepts once the semaphore has a permit, and notifies when it starts.
fn gated() -> (FakeVerifier, Arc<Semaphore>, Arc<Notify>) {
    let (gate, entered) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
    let (gate_inside, entered_inside) = (gate.clone(), entered.clone());
    let verifier = FakeVerifier::scripted(move |_| {
        let (gate, entered) = (gate_inside.clone(), entered_inside.clone());
        async move {
            entered.notify_one();
            gate.acquire().await.unwrap().forget();
            Ok(accept())
        }
    });
    (verifier, gate, entered)
}

#[tokio::test]
async fn concurrent_first_requests_with_one_token_make_one_call() {
    let (verifier, gate, entered) = gated();
    let service = Service::new(&verifier.authenticator());
    let token = token("a");
    let requests: Vec<_> = (0..1000).map(|_| service.spawn_get(&token)).collect();
    entered.notified().await;
    gate.add_permits(1000);
    for request in requests {
        assert_eq!(request.await.unwrap().status, StatusCode::OK);
    }
    assert_eq!(verifier.calls(), 1);
    assert_eq!(service.reached(), 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_first_requests_on_several_threads_make_one_call() {
    for round in 0..20 {
        let verifier = FakeVerifier::accepting_asynchronously();
        let service = Service::new(&verifier.authenticator());
        let token = token(&round.to_string());
        let requests: Vec<_> = (0..200).map(|_| service.spawn_get(&token)).collect();
        for request in requests {
            assert_eq!(request.await.unwrap().status, StatusCode::OK);
        }
        assert_eq!(verifier.calls(), 1);
    }
}

#[tokio::test]
async fn different_tokens_do_not_wait_for_each_other() {
    let verifier = FakeVerifier::scripted(|text| async move {
        if text == token("slow") {
            std::future::pending::<()>().await;
        }
        Ok(accept())
    });
    let service = Service::new(&verifier.authenticator());
    let slow = service.spawn_get(&token("slow"));
    verifier.wait_for_calls(1).await;
    assert_eq!(service.get(&token("quick")).await.status, StatusCode::OK);
    assert!(!slow.is_finished());
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_cancel_the_others() {
    let (verifier, gate, entered) = gated();
    let authenticator = verifier.authenticator();
    let service = Service::new(&authenticator);
    let spawn = || service.spawn_get(&token("a"));
    let first = spawn();
    entered.notified().await;
    let (second, third) = (spawn(), spawn());
    until("both others follow", async || authenticator.metrics().coalesced == 2).await;
    first.abort();
    second.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    gate.add_permits(1);
    assert_eq!(third.await.unwrap().status, StatusCode::OK);
    assert_eq!(verifier.calls(), 1);
}

#[tokio::test]
async fn a_verification_without_callers_still_fills_the_cache() {
    let (verifier, gate, entered) = gated();
    let service = Service::new(&verifier.authenticator());
    let only = service.spawn_get(&token("a"));
    entered.notified().await;
    only.abort();
    gate.add_permits(1);
    assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
    assert_eq!(verifier.calls(), 1);
}

#[tokio::test]
async fn a_panicking_verifier_is_503_and_the_next_call_works() {
    for waits_first in [false, true] {
        let panics = Arc::new(AtomicBool::new(true));
        let panics_inside = panics.clone();
        let verifier = FakeVerifier::scripted(move |_| {
            let panics = panics_inside.clone();
            async move {
                if waits_first {
                    tokio::task::yield_now().await;
                }
                assert!(!panics.load(Ordering::SeqCst), "on purpose");
                Ok(accept())
            }
        });
        let service = Service::new(&verifier.authenticator());
        let answer = service.blocked(bearer(&token("a"))).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.header(header::RETRY_AFTER), Some("1"));
        panics.store(false, Ordering::SeqCst);
        assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
        assert_eq!(verifier.calls(), 2);
    }
}

#[tokio::test]
async fn a_verification_that_hangs_ends_at_its_time_limit() {
    let clock = ManualClock::new();
    let (verifier, gate, entered) = gated();
    let authenticator = verifier.builder().clock(clock.clock()).build().unwrap();
    let text = token("a");
    let waiting = tokio::spawn({
        let (authenticator, text) = (authenticator.clone(), text.clone());
        async move { authenticator.authenticate(BearerToken::parse(&text).unwrap()).await }
    });
    entered.notified().await;
    // The detached task sets the time limit when it polls for the first time.
    idle().await;
    clock.advance(Duration::from_secs(15));
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), VerifyErrorKind::Timeout);
    gate.add_permits(1);
    assert!(authenticator.authenticate(BearerToken::parse(&text).unwrap()).await.is_ok());
    assert_eq!(verifier.calls(), 2);
}

#[tokio::test]
async fn beyond_the_limit_in_flight_callers_get_503_after_a_bounded_wait() {
    let clock = ManualClock::new();
    let (verifier, gate, entered) = gated();
    let authenticator = verifier.builder().max_in_flight(2).clock(clock.clock()).build().unwrap();
    let service = Service::new(&authenticator);
    let first = service.spawn_get(&token("first"));
    entered.notified().await;
    let second = service.spawn_get(&token("second"));
    until("the second caller stops waiting", async || {
        clock.advance(Duration::from_millis(100));
        second.is_finished()
    })
    .await;
    assert_eq!(second.await.unwrap().status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(verifier.calls(), 1, "the second token never reached the backend");
    gate.add_permits(1);
    assert_eq!(first.await.unwrap().status, StatusCode::OK);
}

#[test]
fn a_lookup_whose_runtime_shuts_down_does_not_block_the_next() {
    let (verifier, gate, entered) = gated();
    let authenticator = verifier.authenticator();
    let text = token("a");
    let first =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let lookup =
        first.spawn({
            let (authenticator, text) = (authenticator.clone(), text.clone());
            async move {
                authenticator.authenticate(BearerToken::parse(&text).unwrap()).await.map(|_| ())
            }
        });
    first.block_on(entered.notified());
    first.shutdown_background();
    drop(lookup);
    let second = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    gate.add_permits(10);
    // The first attempt may still join the flight that ended with the other runtime.
    second.block_on(until("the token is accepted", async || {
        authenticator.authenticate(BearerToken::parse(&text).unwrap()).await.is_ok()
    }));
}

/// A runtime that nobody drives never completes the tasks that it has begun.
#[tokio::test]
async fn followers_of_a_leader_on_a_stalled_runtime_get_503_in_time() {
    let verifier = FakeVerifier::new(Behavior::Hang);
    let authenticator = verifier.builder().build().unwrap();
    let service = Service::new(&authenticator);
    let stalled = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = service.clone();
    let driven_once = tokio::task::spawn_blocking(move || {
        let _ = stalled
            .block_on(async { tokio::time::timeout(Duration::ZERO, first.get(&token("a"))).await });
        stalled
    });
    let stalled = driven_once.await.unwrap();
    assert_eq!(verifier.calls(), 1);
    let follower = tokio::spawn(async move { service.blocked(bearer(&token("a"))).await });
    until("the request follows", async || authenticator.metrics().coalesced == 1).await;
    idle().await;
    verifier.advance(16.0);
    let rejected = follower.await.unwrap();
    assert_eq!(rejected.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(rejected.header(header::RETRY_AFTER), Some("1"));
    verifier.set(Behavior::Accept);
    assert_eq!(Service::new(&authenticator).get(&token("a")).await.status, StatusCode::OK);
    stalled.shutdown_background();
}

/// The tasks of a runtime that nobody drives hold the one shared permit, and wait for it.
#[tokio::test]
async fn permits_that_a_stalled_runtime_holds_are_free_after_the_time_limit() {
    let verifier = FakeVerifier::new(Behavior::Hang);
    let authenticator = verifier.builder().max_in_flight(2).build().unwrap();
    let service = Service::new(&authenticator);
    let stalled = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = service.clone();
    let driven_once = tokio::task::spawn_blocking(move || {
        for name in ["a", "b", "c"] {
            let token = token(name);
            let request = first.get(&token);
            let _ = stalled.block_on(async { tokio::time::timeout(Duration::ZERO, request).await });
        }
        stalled
    });
    let stalled = driven_once.await.unwrap();
    let metrics = authenticator.metrics();
    assert_eq!((metrics.in_flight, metrics.waiting), (1, 2));
    verifier.set(Behavior::Accept);
    verifier.advance(16.0);
    let next = service.spawn_get(&token("d"));
    idle().await;
    assert!(next.is_finished(), "a permit is free");
    assert_eq!(next.await.unwrap().status, StatusCode::OK);
    let metrics = authenticator.metrics();
    assert_eq!((metrics.in_flight, metrics.waiting), (0, 0));
    stalled.shutdown_background();
}
