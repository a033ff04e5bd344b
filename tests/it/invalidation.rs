//! Invalidation of cached decisions.

use std::time::Duration;

use axum::http::StatusCode;
use tower_kube_auth::{Authenticator, BearerToken};

use crate::support::{Behavior, FakeVerifier, Service, bearer, idle, token};

/// Tokens of two ServiceAccounts, two of them bound to a Pod.
const CALLERS: [&str; 3] = ["red/red-pod", "red", "blue/blue-pod"];

fn invalidate(authenticator: &Authenticator, name: &str) {
    authenticator.invalidate(BearerToken::parse(&token(name)).unwrap());
}

#[tokio::test]
async fn an_invalidation_affects_exactly_its_subject() {
    type Invalidate = fn(&Authenticator);
    let cases: [(Invalidate, [bool; 3]); 6] = [
        (|auth| invalidate(auth, "red/red-pod"), [true, false, false]),
        (|auth| auth.invalidate_service_account("red-uid"), [true, true, false]),
        (|auth| auth.invalidate_pod("red-pod-uid"), [true, false, false]),
        (|auth| auth.invalidate_all(), [true, true, true]),
        (|auth| auth.invalidate_pod("red-uid"), [false, false, false]),
        (|auth| auth.invalidate_service_account("red"), [false, false, false]),
    ];
    for (case, (invalidate, affected)) in cases.into_iter().enumerate() {
        let verifier = FakeVerifier::new(Behavior::Accept);
        let authenticator = verifier.builder().build().unwrap();
        let service = Service::new(&authenticator);
        for caller in CALLERS {
            assert_eq!(service.get(&token(caller)).await.status, StatusCode::OK);
        }
        verifier.set(Behavior::Reject);
        invalidate(&authenticator);
        for (caller, affected) in CALLERS.into_iter().zip(affected) {
            if affected {
                let rejected = service.blocked(bearer(&token(caller))).await;
                assert_eq!(rejected.status, StatusCode::UNAUTHORIZED, "case {case}: {caller}");
                assert!(rejected.challenge().unwrap().contains("invalid_token"));
            } else {
                assert_eq!(
                    service.get(&token(caller)).await.status,
                    StatusCode::OK,
                    "case {case}: {caller}"
                );
            }
        }
        assert_eq!(
            verifier.calls(),
            CALLERS.len() + affected.into_iter().filter(|affected| *affected).count()
        );
    }
}

#[tokio::test]
async fn rejections_are_invalidated_by_token_and_all_at_once() {
    let verifier = FakeVerifier::new(Behavior::Reject);
    let authenticator = verifier.builder().build().unwrap();
    let service = Service::new(&authenticator);
    for invalidate in [
        |auth: &Authenticator| invalidate(auth, "red"),
        |auth: &Authenticator| auth.invalidate_all(),
    ] {
        verifier.set(Behavior::Reject);
        assert_eq!(service.blocked(bearer(&token("red"))).await.status, StatusCode::UNAUTHORIZED);
        verifier.set(Behavior::Accept);
        assert_eq!(
            service.blocked(bearer(&token("red"))).await.status,
            StatusCode::UNAUTHORIZED,
            "from the cache"
        );
        invalidate(&authenticator);
        assert_eq!(service.get(&token("red")).await.status, StatusCode::OK);
        authenticator.invalidate_all();
    }
}

#[tokio::test]
async fn a_verification_that_began_before_is_neither_cached_nor_joined() {
    type Invalidate = fn(&Authenticator);
    let ways: [Invalidate; 4] = [
        |auth| invalidate(auth, "red/red-pod"),
        |auth| auth.invalidate_service_account("red-uid"),
        |auth| auth.invalidate_pod("red-pod-uid"),
        |auth| auth.invalidate_all(),
    ];
    for invalidate in ways {
        let verifier = FakeVerifier::new(Behavior::Hang);
        let authenticator = verifier.builder().build().unwrap();
        let service = Service::new(&authenticator);
        let ask = || service.spawn_get(&token("red/red-pod"));
        let before = ask();
        verifier.wait_for_calls(1).await;
        invalidate(&authenticator);
        // Its outcome predates the invalidation, although it completes afterwards.
        let after = ask();
        verifier.wait_for_calls(2).await;
        verifier.resume(Behavior::Accept);
        assert_eq!(before.await.unwrap().status, StatusCode::OK, "it was sent before");
        assert_eq!(after.await.unwrap().status, StatusCode::OK);
        assert_eq!(authenticator.metrics().coalesced, 0);

        authenticator.invalidate_all();
        verifier.set(Behavior::Hang);
        let before = ask();
        verifier.wait_for_calls(3).await;
        invalidate(&authenticator);
        verifier.resume(Behavior::Accept);
        assert_eq!(before.await.unwrap().status, StatusCode::OK);
        verifier.set(Behavior::Reject);
        assert_eq!(
            service.blocked(bearer(&token("red/red-pod"))).await.status,
            StatusCode::UNAUTHORIZED,
            "not cached"
        );
    }
}

#[tokio::test]
async fn a_refresh_that_began_before_does_not_restore_the_entry() {
    let verifier = FakeVerifier::new(Behavior::Accept);
    let authenticator = verifier.builder().build().unwrap();
    let service = Service::new(&authenticator);
    service.get(&token("red")).await;
    verifier.set(Behavior::Hang);
    verifier.advance(53.0);
    service.get(&token("red")).await;
    verifier.wait_for_calls(2).await;
    authenticator.invalidate_service_account("red-uid");
    verifier.resume(Behavior::Accept);
    idle().await;
    verifier.set(Behavior::Reject);
    assert_eq!(service.blocked(bearer(&token("red"))).await.status, StatusCode::UNAUTHORIZED);
}

/// The API server caches its own decisions for 10 s, so its first answer may predate the change.
#[tokio::test]
async fn a_token_accepted_right_after_is_verified_again_within_11_s() {
    let verifier = FakeVerifier::new(Behavior::Accept);
    let authenticator = verifier.builder().build().unwrap();
    let service = Service::new(&authenticator);
    authenticator.invalidate_service_account("red-uid");
    verifier.advance(1.0);
    service.get(&token("red")).await;
    service.get(&token("blue")).await;
    verifier.set(Behavior::Reject);
    verifier.advance(9.9);
    assert_eq!(service.get(&token("red")).await.status, StatusCode::OK);
    verifier.advance(0.1);
    assert_eq!(service.blocked(bearer(&token("red"))).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(service.get(&token("blue")).await.status, StatusCode::OK, "another ServiceAccount");
}

#[tokio::test]
async fn those_11_s_run_from_the_start_of_the_verification() {
    let verifier = FakeVerifier::new(Behavior::Hang);
    let authenticator = verifier.builder().build().unwrap();
    let service = Service::new(&authenticator);
    authenticator.invalidate_service_account("red-uid");
    verifier.advance(9.0);
    let asked = tokio::spawn({
        let service = service.clone();
        async move { service.get(&token("red")).await.status }
    });
    verifier.wait_for_calls(1).await;
    verifier.advance(3.0);
    verifier.resume(Behavior::Accept);
    assert_eq!(asked.await.unwrap(), StatusCode::OK);
    verifier.set(Behavior::Reject);
    assert_eq!(service.blocked(bearer(&token("red"))).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_decision_that_may_predate_an_invalidation_is_not_served_stale() {
    let verifier = FakeVerifier::new(Behavior::Accept);
    for ttl in [5, 60] {
        let (ttl, grace) = (Duration::from_secs(ttl), Duration::from_secs(3600));
        let authenticator = verifier.builder().cache_ttl(ttl).serve_stale(grace).build().unwrap();
        let service = Service::new(&authenticator);
        authenticator.invalidate_service_account("red-uid");
        verifier.set(Behavior::Accept);
        verifier.advance(1.0);
        assert_eq!(service.get(&token("red")).await.status, StatusCode::OK);
        verifier.set(Behavior::Fail);
        verifier.advance(11.0);
        assert_eq!(
            service.blocked(bearer(&token("red"))).await.status,
            StatusCode::SERVICE_UNAVAILABLE
        );
    }
}

/// After an invalidation two verifications of one token can run at the same time. The one that
/// began later wins, whichever ends last.
#[tokio::test]
async fn an_older_verification_does_not_overwrite_a_newer_rejection() {
    let verifier = FakeVerifier::new(Behavior::Hang);
    let authenticator = verifier.builder().build().unwrap();
    let service = Service::new(&authenticator);
    let older = tokio::spawn({
        let service = service.clone();
        async move { service.get(&token("red")).await.status }
    });
    verifier.wait_for_calls(1).await;
    authenticator.invalidate_pod("another-uid");
    verifier.set(Behavior::Reject);
    assert_eq!(service.blocked(bearer(&token("red"))).await.status, StatusCode::UNAUTHORIZED);
    verifier.resume(Behavior::Accept);
    assert_eq!(older.await.unwrap(), StatusCode::OK, "it was sent before");
    assert_eq!(service.blocked(bearer(&token("red"))).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(verifier.calls(), 2);
}

#[tokio::test]
async fn an_invalidated_decision_is_not_served_stale() {
    let verifier = FakeVerifier::new(Behavior::Accept);
    let authenticator = verifier.builder().serve_stale(Duration::from_secs(600)).build().unwrap();
    let service = Service::new(&authenticator);
    service.get(&token("red")).await;
    verifier.set(Behavior::Fail);
    verifier.advance(67.0);
    assert_eq!(service.get(&token("red")).await.status, StatusCode::OK);
    authenticator.invalidate_service_account("red-uid");
    assert_eq!(
        service.blocked(bearer(&token("red"))).await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
}
