//! An accepted token past its time, while it cannot be verified anew.

use std::time::Duration;

use axum::http::StatusCode;

use crate::{
    scripted::{Service, bearer, token},
    switch::{Mood, Switch, settle, until},
};

const GRACE: Duration = Duration::from_secs(600);

/// A caller who was accepted, and whose time is over.
async fn a_caller_past_the_ttl(switch: &Switch) -> Service {
    let service = Service::new(&switch.builder().serve_stale(GRACE).build().unwrap());
    assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
    switch.advance(67.0);
    service
}

#[tokio::test]
async fn it_is_served_until_the_grace_is_over_and_then_503() {
    let switch = Switch::new(Mood::Accepts);
    let service = a_caller_past_the_ttl(&switch).await;
    switch.set(Mood::Fails);
    // 67 s have passed; the shortest TTL and the grace make 654 s, the longest 666 s.
    for _ in 0..58 {
        for _ in 0..3 {
            assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
            settle().await;
        }
        switch.advance(10.0);
    }
    assert!(switch.calls() < 2 + 2 * 58, "at most one attempt a second: {}", switch.calls());
    switch.advance(20.0);
    let refused = service.refused(bearer(&token("a"))).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((refused.header("retry-after"), refused.challenge()), (Some("1"), None));
}

#[tokio::test]
async fn it_is_never_served_past_exp() {
    let switch = Switch::new(Mood::Accepts);
    switch.set(Mood::AcceptsUntil(switch.clock.clock().wall() + Duration::from_secs(200)));
    let service = a_caller_past_the_ttl(&switch).await;
    switch.set(Mood::Fails);
    switch.advance(132.0);
    assert_eq!(service.get(&token("a")).await.status, StatusCode::OK, "a second before");
    switch.advance(1.0);
    assert_eq!(service.refused(bearer(&token("a"))).await.status, StatusCode::SERVICE_UNAVAILABLE);
    switch.clock.jump_back(Duration::from_secs(3600));
    assert_eq!(service.get(&token("a")).await.status, StatusCode::OK, "by the clock as it is now");
    switch.clock.jump_forward(Duration::from_secs(7200));
    assert_eq!(service.refused(bearer(&token("a"))).await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_refusal_ends_it_at_once() {
    let switch = Switch::new(Mood::Accepts);
    let service = a_caller_past_the_ttl(&switch).await;
    switch.set(Mood::Fails);
    assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
    switch.set(Mood::Rejects);
    switch.advance(1.0);
    assert_eq!(service.get(&token("a")).await.status, StatusCode::OK, "it is not known yet");
    settle().await;
    assert_eq!(service.refused(bearer(&token("a"))).await.status, StatusCode::UNAUTHORIZED);
    switch.set(Mood::Fails);
    switch.advance(12.0);
    assert_eq!(
        service.refused(bearer(&token("a"))).await.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "it is forgotten"
    );
}

#[tokio::test]
async fn who_comes_while_nothing_is_known_of_trouble_waits_for_the_answer() {
    let switch = Switch::new(Mood::Accepts);
    let service = a_caller_past_the_ttl(&switch).await;
    switch.set(Mood::Rejects);
    assert_eq!(
        service.refused(bearer(&token("a"))).await.status,
        StatusCode::UNAUTHORIZED,
        "not served, then asked"
    );
}

#[tokio::test]
async fn trouble_of_long_ago_does_not_count() {
    let switch = Switch::new(Mood::Accepts);
    let limit = Duration::from_secs(24 * 3600);
    let service = Service::new(
        &switch.builder().serve_stale(GRACE).verification_timeout(limit).build().unwrap(),
    );
    service.get(&token("a")).await;
    switch.advance(67.0);
    switch.set(Mood::Fails);
    assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
    switch.set(Mood::Rejects);
    switch.advance(22.0);
    assert_eq!(
        service.refused(bearer(&token("a"))).await.status,
        StatusCode::UNAUTHORIZED,
        "not served, then asked"
    );
}

#[tokio::test]
async fn of_a_verifier_that_hangs_the_first_waits_and_the_others_are_served_at_once() {
    let switch = Switch::new(Mood::Accepts);
    let service = a_caller_past_the_ttl(&switch).await;
    switch.set(Mood::Hangs);
    let first = tokio::spawn({
        let service = service.clone();
        async move { service.get(&token("a")).await.status }
    });
    until(|| switch.calls() == 2).await;
    settle().await;
    assert!(!first.is_finished());
    switch.advance(15.0);
    assert_eq!(first.await.unwrap(), StatusCode::OK);
    for second in 0..60 {
        assert_eq!(service.get(&token("a")).await.status, StatusCode::OK, "second {second}");
        settle().await;
        switch.advance(1.0);
        settle().await;
    }
    assert!(switch.calls() <= 2 + 60 / 15 + 1, "one attempt at a time: {}", switch.calls());
}

#[tokio::test]
async fn it_ends_with_the_trouble() {
    let switch = Switch::new(Mood::Accepts);
    let authenticator = switch.builder().serve_stale(GRACE).build().unwrap();
    let service = Service::new(&authenticator);
    service.get(&token("a")).await;
    switch.advance(67.0);
    switch.set(Mood::Fails);
    assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
    assert_eq!(authenticator.metrics().served_stale, 1);
    switch.set(Mood::Accepts);
    switch.advance(1.0);
    assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
    settle().await;
    assert_eq!(authenticator.metrics().served_stale, 2);
    for _ in 0..40 {
        assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
        switch.advance(1.0);
    }
    assert_eq!((authenticator.metrics().served_stale, switch.calls()), (2, 3), "it is fresh again");
}

#[tokio::test]
async fn strangers_are_not_served_whatever_the_trouble() {
    let switch = Switch::new(Mood::Accepts);
    let service = a_caller_past_the_ttl(&switch).await;
    switch.set(Mood::Fails);
    assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
    assert_eq!(service.refused(bearer(&token("b"))).await.status, StatusCode::SERVICE_UNAVAILABLE);
}
