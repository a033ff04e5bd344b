//! Verified anew before its time is over: those who call regularly never wait.

use std::time::Duration;

use axum::http::StatusCode;
use tokio::runtime::Handle;

use crate::{
    scripted::{Service, bearer, token},
    switch::{Mood, Switch, settle, until},
};

/// Past 80 % of the longest TTL (66 s), and before the end of the shortest (54 s).
const DUE: f64 = 53.0;

#[tokio::test]
async fn a_regular_caller_never_waits_and_one_task_verifies_anew() {
    let switch = Switch::new(Mood::Accepts);
    let authenticator = switch.builder().build().unwrap();
    let service = Service::new(&authenticator);
    assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
    for round in 2..=5 {
        switch.set(Mood::Hangs);
        switch.advance(DUE);
        for _ in 0..100 {
            assert_eq!(
                service.get(&token("a")).await.status,
                StatusCode::OK,
                "though the verifier hangs"
            );
        }
        settle().await;
        assert_eq!(switch.calls(), round);
        switch.go_on(Mood::Accepts);
        settle().await;
    }
    assert_eq!(authenticator.metrics().refreshed_ahead, 4);
    assert_eq!((authenticator.metrics().coalesced, authenticator.metrics().in_flight), (0, 0));
}

#[tokio::test]
async fn before_80_percent_and_without_a_caller_nothing_is_verified_anew() {
    let switch = Switch::new(Mood::Accepts);
    let service = Service::new(&switch.builder().build().unwrap());
    service.get(&token("regular")).await;
    service.get(&token("gone")).await;
    for _ in 0..43 {
        switch.advance(1.0);
        assert_eq!(service.get(&token("regular")).await.status, StatusCode::OK);
    }
    settle().await;
    assert_eq!(switch.calls(), 2, "43 s are below 80 % of the shortest TTL");
    switch.advance(10.0);
    service.get(&token("regular")).await;
    settle().await;
    assert_eq!(switch.calls(), 3);
}

#[tokio::test]
async fn a_refusal_ahead_of_time_counts_at_once() {
    let switch = Switch::new(Mood::Accepts);
    let service = Service::new(&switch.builder().build().unwrap());
    service.get(&token("a")).await;
    switch.set(Mood::Rejects);
    switch.advance(DUE);
    assert_eq!(service.get(&token("a")).await.status, StatusCode::OK, "it is not known yet");
    settle().await;
    let refused = service.refused(bearer(&token("a"))).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert!(refused.challenge().unwrap().contains("invalid_token"));
    assert_eq!(switch.calls(), 2, "the refusal is from the cache");
}

#[tokio::test]
async fn trouble_ahead_of_time_is_tried_once_a_second_and_changes_nothing_before_the_end() {
    let switch = Switch::new(Mood::Accepts);
    let service = Service::new(&switch.builder().build().unwrap());
    service.get(&token("a")).await;
    switch.set(Mood::Fails);
    switch.advance(DUE);
    for _ in 0..9 {
        switch.advance(0.1);
        for _ in 0..10 {
            assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
            settle().await;
        }
    }
    assert!(
        (2..=3).contains(&switch.calls()),
        "at most one attempt in each second: {}",
        switch.calls()
    );
    switch.advance(13.0);
    let refused = service.refused(bearer(&token("a"))).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn a_pause_that_the_verifier_asks_for_is_kept() {
    let switch = Switch::new(Mood::Accepts);
    let service =
        Service::new(&switch.builder().cache_ttl(Duration::from_secs(600)).build().unwrap());
    service.get(&token("a")).await;
    switch.set(Mood::FailsWithPause(Duration::from_secs(5)));
    switch.advance(530.0);
    service.get(&token("a")).await;
    settle().await;
    assert_eq!(switch.calls(), 2);
    for _ in 0..4 {
        switch.advance(1.0);
        assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
        settle().await;
    }
    assert_eq!(switch.calls(), 2);
    switch.advance(1.0);
    service.get(&token("a")).await;
    settle().await;
    assert_eq!(switch.calls(), 3);
}

#[tokio::test]
async fn a_token_that_is_about_to_expire_is_not_verified_anew() {
    let switch = Switch::new(Mood::Accepts);
    let expiry = switch.clock.clock().wall() + Duration::from_secs(40);
    switch.set(Mood::AcceptsUntil(expiry));
    let service = Service::new(&switch.builder().build().unwrap());
    service.get(&token("a")).await;
    for _ in 0..39 {
        switch.advance(1.0);
        assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
        settle().await;
    }
    assert_eq!(switch.calls(), 1);
}

#[tokio::test]
async fn what_nobody_waits_for_leaves_room_for_those_who_wait() {
    let switch = Switch::new(Mood::Accepts);
    let authenticator = switch.builder().max_in_flight(4).build().unwrap();
    let service = Service::new(&authenticator);
    for name in ["a", "b", "c", "d"] {
        service.get(&token(name)).await;
    }
    switch.set(Mood::Hangs);
    switch.advance(DUE);
    for name in ["a", "b", "c", "d"] {
        assert_eq!(service.get(&token(name)).await.status, StatusCode::OK);
    }
    settle().await;
    assert_eq!((switch.calls(), authenticator.metrics().in_flight), (4 + 2, 2));
    let newcomer = tokio::spawn({
        let service = service.clone();
        async move { service.get(&token("e")).await.status }
    });
    until(|| authenticator.metrics().in_flight == 3).await;
    switch.go_on(Mood::Accepts);
    assert_eq!(newcomer.await.unwrap(), StatusCode::OK);
}

#[tokio::test]
async fn a_flood_of_strangers_does_not_keep_it_from_those_who_are_known() {
    let switch = Switch::new(Mood::Accepts);
    let authenticator = switch.builder().max_in_flight(8).build().unwrap();
    let service = Service::new(&authenticator);
    service.get(&token("regular")).await;
    switch.advance(DUE);
    switch.set(Mood::Hangs);
    let strangers: Vec<_> = (0..200)
        .map(|number| {
            let service = service.clone();
            tokio::spawn(
                async move { service.get(&token(&format!("stranger-{number}"))).await.status },
            )
        })
        .collect();
    // Six of eight are for anybody, and for each of these 16 wait.
    until(|| authenticator.metrics().waiting == 6 * 16).await;
    assert_eq!((authenticator.metrics().in_flight, switch.calls()), (6, 1 + 6));
    assert_eq!(service.get(&token("regular")).await.status, StatusCode::OK);
    until(|| switch.calls() == 1 + 6 + 1).await;
    assert_eq!(
        (authenticator.metrics().in_flight, authenticator.metrics().refreshed_ahead),
        (7, 1)
    );
    strangers.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn the_last_handle_takes_the_tasks_with_it() {
    let switch = Switch::new(Mood::Accepts);
    let before = Handle::current().metrics().num_alive_tasks();
    let authenticator = switch.builder().build().unwrap();
    let service = Service::new(&authenticator);
    service.get(&token("a")).await;
    switch.set(Mood::Hangs);
    switch.advance(DUE);
    service.get(&token("a")).await;
    let given_up = tokio::time::timeout(Duration::ZERO, service.get(&token("b"))).await;
    assert!(given_up.is_err(), "its caller has gone, its verification goes on");
    settle().await;
    assert_eq!((switch.calls(), Handle::current().metrics().num_alive_tasks()), (3, before + 2));
    drop(service);
    settle().await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), before + 2, "there is a handle left");
    drop(authenticator);
    settle().await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), before);
}
