//! One verification for all who bring one token at one time, whatever happens to any of them.

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

use crate::{
    scripted::{Scripted, Service, accept, bearer, token},
    switch::{Mood, Switch, settle, until},
};

/// Accepts, but only when the gate is opened.
fn gated() -> (Scripted, Arc<Semaphore>, Arc<Notify>) {
    let (gate, entered) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
    let (gate_inside, entered_inside) = (gate.clone(), entered.clone());
    let verifier = Scripted::new(move |_| {
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
async fn a_thousand_concurrent_first_requests_with_one_token_make_one_backend_call() {
    let (verifier, gate, entered) = gated();
    let service = Service::new(&verifier.authenticator());
    let token = token("a");
    let requests: Vec<_> = (0..1000)
        .map(|_| {
            let (service, token) = (service.clone(), token.clone());
            tokio::spawn(async move { service.get(&token).await.status })
        })
        .collect();
    entered.notified().await;
    gate.add_permits(1000);
    for request in requests {
        assert_eq!(request.await.unwrap(), StatusCode::OK);
    }
    assert_eq!(verifier.calls(), 1);
    assert_eq!(service.reached(), 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_same_on_several_threads() {
    for round in 0..20 {
        let verifier = Scripted::new(async |_| {
            tokio::task::yield_now().await;
            Ok(accept())
        });
        let service = Service::new(&verifier.authenticator());
        let token = token(&round.to_string());
        let requests: Vec<_> = (0..200)
            .map(|_| {
                let (service, token) = (service.clone(), token.clone());
                tokio::spawn(async move { service.get(&token).await.status })
            })
            .collect();
        for request in requests {
            assert_eq!(request.await.unwrap(), StatusCode::OK);
        }
        assert_eq!(verifier.calls(), 1);
    }
}

#[tokio::test]
async fn different_tokens_do_not_wait_for_each_other() {
    let verifier = Scripted::new(|text| async move {
        if text == token("slow") {
            std::future::pending::<()>().await;
        }
        Ok(accept())
    });
    let service = Service::new(&verifier.authenticator());
    let (slow, behind) = (token("slow"), service.clone());
    let slow = tokio::spawn(async move { behind.get(&slow).await.status });
    tokio::task::yield_now().await;
    assert_eq!(service.get(&token("quick")).await.status, StatusCode::OK);
    assert!(!slow.is_finished());
}

#[tokio::test]
async fn a_caller_that_goes_away_cancels_nobody_not_even_the_first() {
    let (verifier, gate, entered) = gated();
    let service = Service::new(&verifier.authenticator());
    let spawn = || {
        let service = service.clone();
        tokio::spawn(async move { service.get(&token("a")).await.status })
    };
    let first = spawn();
    entered.notified().await;
    let (second, third) = (spawn(), spawn());
    tokio::task::yield_now().await;
    first.abort();
    second.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    gate.add_permits(1);
    assert_eq!(third.await.unwrap(), StatusCode::OK);
    assert_eq!(verifier.calls(), 1);
}

#[tokio::test]
async fn a_verification_that_nobody_waits_for_any_more_still_fills_the_cache() {
    let (verifier, gate, entered) = gated();
    let service = Service::new(&verifier.authenticator());
    let behind = service.clone();
    let only = tokio::spawn(async move { behind.get(&token("a")).await.status });
    entered.notified().await;
    only.abort();
    gate.add_permits(1);
    assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
    assert_eq!(verifier.calls(), 1);
}

#[tokio::test]
async fn a_panicking_verifier_answers_503_and_the_next_call_works() {
    for waits_first in [false, true] {
        let panics = Arc::new(AtomicBool::new(true));
        let panics_inside = panics.clone();
        let verifier = Scripted::new(move |_| {
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
        let answer = service.refused(crate::scripted::bearer(&token("a"))).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.header(header::RETRY_AFTER), Some("1"));
        panics.store(false, Ordering::SeqCst);
        assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
        assert_eq!(verifier.calls(), 2);
    }
}

#[tokio::test]
async fn a_verification_that_hangs_ends_at_its_time_limit_and_frees_the_key() {
    let clock = ManualClock::new();
    let (verifier, gate, entered) = gated();
    let authenticator = verifier.builder().clock(clock.clock()).build().unwrap();
    let text = token("a");
    let waiting = tokio::spawn({
        let (authenticator, text) = (authenticator.clone(), text.clone());
        async move { authenticator.authenticate(BearerToken::parse(&text).unwrap()).await }
    });
    entered.notified().await;
    // The second poll, in the task of its own, sets the time limit.
    tokio::task::yield_now().await;
    clock.advance(Duration::from_secs(15));
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), VerifyErrorKind::Timeout);
    gate.add_permits(1);
    assert!(authenticator.authenticate(BearerToken::parse(&text).unwrap()).await.is_ok());
    assert_eq!(verifier.calls(), 2);
}

#[tokio::test]
async fn beyond_the_limit_in_flight_503_after_a_bounded_wait() {
    let clock = ManualClock::new();
    let (verifier, gate, entered) = gated();
    let authenticator = verifier.builder().max_in_flight(1).clock(clock.clock()).build().unwrap();
    let service = Service::new(&authenticator);
    let spawn = |name: &str| {
        let (service, token) = (service.clone(), token(name));
        tokio::spawn(async move { service.get(&token).await.status })
    };
    let first = spawn("first");
    entered.notified().await;
    let second = spawn("second");
    while verifier.calls() < 1 || !second.is_finished() {
        tokio::task::yield_now().await;
        clock.advance(Duration::from_millis(100));
    }
    assert_eq!(second.await.unwrap(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(verifier.calls(), 1, "the second token never reached the backend");
    gate.add_permits(1);
    assert_eq!(first.await.unwrap(), StatusCode::OK);
}

#[test]
fn a_runtime_that_shuts_down_in_the_middle_of_a_lookup_panics_nowhere_and_frees_the_key() {
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
    // Its first attempt may still meet the flight that went down with the other runtime.
    let accepted = second.block_on(async {
        for _ in 0..1000 {
            if authenticator.authenticate(BearerToken::parse(&text).unwrap()).await.is_ok() {
                return true;
            }
            tokio::task::yield_now().await;
        }
        false
    });
    assert!(accepted);
}

/// A runtime that lives on without being driven never comes to the end of what was begun on it.
#[tokio::test]
async fn who_follows_a_leader_whose_runtime_stands_still_gets_503_in_time_and_the_next_one_leads() {
    let switch = Switch::new(Mood::Hangs);
    let authenticator = switch.builder().build().unwrap();
    let service = Service::new(&authenticator);
    let still = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = service.clone();
    let driven_once = tokio::task::spawn_blocking(move || {
        let _ = still
            .block_on(async { tokio::time::timeout(Duration::ZERO, first.get(&token("a"))).await });
        still
    });
    let still = driven_once.await.unwrap();
    assert_eq!(switch.calls(), 1);
    let follower = tokio::spawn(async move { service.refused(bearer(&token("a"))).await });
    until(|| authenticator.metrics().coalesced == 1).await;
    settle().await;
    switch.advance(16.0);
    let refused = follower.await.unwrap();
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.header(header::RETRY_AFTER), Some("1"));
    switch.set(Mood::Accepts);
    assert_eq!(Service::new(&authenticator).get(&token("a")).await.status, StatusCode::OK);
    still.shutdown_background();
}
