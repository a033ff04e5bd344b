//! Decisions that are forgotten before their time.

use std::time::Duration;

use axum::http::StatusCode;
use tower_kube_auth::{Authenticator, BearerToken};

use crate::{
    scripted::{Service, bearer, token},
    switch::{Mood, Switch, settle, until},
};

/// Tokens of two ServiceAccounts with a Pod each, and one without.
const CALLERS: [&str; 3] = ["red/red-pod", "red", "blue/blue-pod"];

fn invalidate(authenticator: &Authenticator, name: &str) {
    authenticator.invalidate(BearerToken::parse(&token(name)).unwrap());
}

#[tokio::test]
async fn the_next_request_of_those_who_are_meant_is_verified_anew_and_of_nobody_else() {
    type Invalidate = fn(&Authenticator);
    let cases: [(Invalidate, [bool; 3]); 6] = [
        (|auth| invalidate(auth, "red/red-pod"), [true, false, false]),
        (|auth| auth.invalidate_service_account("red-uid"), [true, true, false]),
        (|auth| auth.invalidate_pod("red-pod-uid"), [true, false, false]),
        (|auth| auth.invalidate_all(), [true, true, true]),
        (|auth| auth.invalidate_pod("red-uid"), [false, false, false]),
        (|auth| auth.invalidate_service_account("red"), [false, false, false]),
    ];
    for (case, (invalidate, meant)) in cases.into_iter().enumerate() {
        let switch = Switch::new(Mood::Accepts);
        let authenticator = switch.builder().build().unwrap();
        let service = Service::new(&authenticator);
        for caller in CALLERS {
            assert_eq!(service.get(&token(caller)).await.status, StatusCode::OK);
        }
        switch.set(Mood::Rejects);
        invalidate(&authenticator);
        for (caller, meant) in CALLERS.into_iter().zip(meant) {
            if meant {
                let refused = service.refused(bearer(&token(caller))).await;
                assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "case {case}: {caller}");
                assert!(refused.challenge().unwrap().contains("invalid_token"));
            } else {
                assert_eq!(
                    service.get(&token(caller)).await.status,
                    StatusCode::OK,
                    "case {case}: {caller}"
                );
            }
        }
        assert_eq!(
            switch.calls(),
            CALLERS.len() + meant.into_iter().filter(|meant| *meant).count()
        );
    }
}

#[tokio::test]
async fn refusals_are_forgotten_too_by_token_and_by_all() {
    let switch = Switch::new(Mood::Rejects);
    let authenticator = switch.builder().build().unwrap();
    let service = Service::new(&authenticator);
    for forget in [
        |auth: &Authenticator| invalidate(auth, "red"),
        |auth: &Authenticator| auth.invalidate_all(),
    ] {
        switch.set(Mood::Rejects);
        assert_eq!(service.refused(bearer(&token("red"))).await.status, StatusCode::UNAUTHORIZED);
        switch.set(Mood::Accepts);
        assert_eq!(
            service.refused(bearer(&token("red"))).await.status,
            StatusCode::UNAUTHORIZED,
            "from the cache"
        );
        forget(&authenticator);
        assert_eq!(service.get(&token("red")).await.status, StatusCode::OK);
        authenticator.invalidate_all();
    }
}

#[tokio::test]
async fn a_verification_that_began_before_is_neither_kept_nor_waited_for() {
    type Invalidate = fn(&Authenticator);
    let ways: [Invalidate; 4] = [
        |auth| invalidate(auth, "red/red-pod"),
        |auth| auth.invalidate_service_account("red-uid"),
        |auth| auth.invalidate_pod("red-pod-uid"),
        |auth| auth.invalidate_all(),
    ];
    for invalidate in ways {
        let switch = Switch::new(Mood::Hangs);
        let authenticator = switch.builder().build().unwrap();
        let service = Service::new(&authenticator);
        let ask = || {
            let service = service.clone();
            tokio::spawn(async move { service.get(&token("red/red-pod")).await.status })
        };
        let before = ask();
        until(|| switch.calls() == 1).await;
        invalidate(&authenticator);
        // What it found out is from before, though it comes to its end only now.
        let after = ask();
        until(|| switch.calls() == 2).await;
        switch.go_on(Mood::Accepts);
        assert_eq!(before.await.unwrap(), StatusCode::OK, "it had asked before");
        assert_eq!(after.await.unwrap(), StatusCode::OK);
        assert_eq!(authenticator.metrics().coalesced, 0);

        authenticator.invalidate_all();
        switch.set(Mood::Hangs);
        let before = ask();
        until(|| switch.calls() == 3).await;
        invalidate(&authenticator);
        switch.go_on(Mood::Accepts);
        assert_eq!(before.await.unwrap(), StatusCode::OK);
        switch.set(Mood::Rejects);
        assert_eq!(
            service.refused(bearer(&token("red/red-pod"))).await.status,
            StatusCode::UNAUTHORIZED,
            "not kept"
        );
    }
}

#[tokio::test]
async fn a_refresh_that_began_before_does_not_bring_it_back() {
    let switch = Switch::new(Mood::Accepts);
    let authenticator = switch.builder().build().unwrap();
    let service = Service::new(&authenticator);
    service.get(&token("red")).await;
    switch.set(Mood::Hangs);
    switch.advance(53.0);
    service.get(&token("red")).await;
    until(|| switch.calls() == 2).await;
    authenticator.invalidate_service_account("red-uid");
    switch.go_on(Mood::Accepts);
    settle().await;
    switch.set(Mood::Rejects);
    assert_eq!(service.refused(bearer(&token("red"))).await.status, StatusCode::UNAUTHORIZED);
}

/// The API server answers from a cache of its own for 10 s, so that its first answer may be from before.
#[tokio::test]
async fn what_is_accepted_right_after_is_verified_again_when_the_api_server_must_know() {
    let switch = Switch::new(Mood::Accepts);
    let authenticator = switch.builder().build().unwrap();
    let service = Service::new(&authenticator);
    authenticator.invalidate_service_account("red-uid");
    switch.advance(1.0);
    service.get(&token("red")).await;
    service.get(&token("blue")).await;
    switch.set(Mood::Rejects);
    switch.advance(9.9);
    assert_eq!(service.get(&token("red")).await.status, StatusCode::OK);
    switch.advance(0.1);
    assert_eq!(service.refused(bearer(&token("red"))).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(service.get(&token("blue")).await.status, StatusCode::OK, "of somebody else");
}

#[tokio::test]
async fn these_seconds_run_from_when_the_api_server_was_asked() {
    let switch = Switch::new(Mood::Hangs);
    let authenticator = switch.builder().build().unwrap();
    let service = Service::new(&authenticator);
    authenticator.invalidate_service_account("red-uid");
    switch.advance(9.0);
    let asked = tokio::spawn({
        let service = service.clone();
        async move { service.get(&token("red")).await.status }
    });
    until(|| switch.calls() == 1).await;
    switch.advance(3.0);
    switch.go_on(Mood::Accepts);
    assert_eq!(asked.await.unwrap(), StatusCode::OK);
    switch.set(Mood::Rejects);
    assert_eq!(service.refused(bearer(&token("red"))).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn what_may_be_from_before_has_no_grace() {
    let switch = Switch::new(Mood::Accepts);
    for ttl in [5, 60] {
        let (ttl, grace) = (Duration::from_secs(ttl), Duration::from_secs(3600));
        let authenticator = switch.builder().cache_ttl(ttl).serve_stale(grace).build().unwrap();
        let service = Service::new(&authenticator);
        authenticator.invalidate_service_account("red-uid");
        switch.set(Mood::Accepts);
        switch.advance(1.0);
        assert_eq!(service.get(&token("red")).await.status, StatusCode::OK);
        switch.set(Mood::Fails);
        switch.advance(11.0);
        assert_eq!(
            service.refused(bearer(&token("red"))).await.status,
            StatusCode::SERVICE_UNAVAILABLE
        );
    }
}

/// An invalidation lets others verify the same token beside one that has begun; which of them ends last does not matter.
#[tokio::test]
async fn an_older_verification_does_not_overwrite_a_newer_refusal() {
    let switch = Switch::new(Mood::Hangs);
    let authenticator = switch.builder().build().unwrap();
    let service = Service::new(&authenticator);
    let older = tokio::spawn({
        let service = service.clone();
        async move { service.get(&token("red")).await.status }
    });
    until(|| switch.calls() == 1).await;
    authenticator.invalidate_pod("somebody-elses");
    switch.set(Mood::Rejects);
    assert_eq!(service.refused(bearer(&token("red"))).await.status, StatusCode::UNAUTHORIZED);
    switch.go_on(Mood::Accepts);
    assert_eq!(older.await.unwrap(), StatusCode::OK, "it was asked before");
    assert_eq!(service.refused(bearer(&token("red"))).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(switch.calls(), 2);
}

#[tokio::test]
async fn what_is_forgotten_is_not_served_stale() {
    let switch = Switch::new(Mood::Accepts);
    let authenticator = switch.builder().serve_stale(Duration::from_secs(600)).build().unwrap();
    let service = Service::new(&authenticator);
    service.get(&token("red")).await;
    switch.set(Mood::Fails);
    switch.advance(67.0);
    assert_eq!(service.get(&token("red")).await.status, StatusCode::OK);
    authenticator.invalidate_service_account("red-uid");
    assert_eq!(
        service.refused(bearer(&token("red"))).await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
}
