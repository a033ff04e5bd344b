//! Gauges: which add up, and which show the last value.

use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use tower_kube_auth::{
    Authenticator, VerifierExt,
    client::{TokenRequestSource, TokenSource},
    testing::{Endpoint, Fault, ManualClock},
    verdict::RejectReason,
};

use crate::support::{
    Behavior, FakeVerifier, Fixture, Recorder, Service, bearer, idle, join_all, token,
};

#[tokio::test]
async fn entries_and_verifications_of_all_authenticators_add_up() {
    let recorder = Recorder::new();
    let _recording = recorder.install();
    let entries =
        |decision: &str| recorder.value(&format!("token_cache_entries{{decision=\"{decision}\"}}"));
    let verifier = FakeVerifier::new(Behavior::Accept);
    let authenticators = [(); 2].map(|()| verifier.builder().max_in_flight(2).build().unwrap());
    let services = authenticators.each_ref().map(Service::new);
    services[0].get(&token("a")).await;
    services[1].get(&token("a")).await;
    services[1].get(&token("b")).await;
    assert_eq!(entries("accepted"), 3.0);
    authenticators[1].invalidate_all();
    assert_eq!(entries("accepted"), 1.0);

    verifier.set(Behavior::Hang);
    // One of two permits is reserved for tokens that were accepted before.
    let calls = verifier.calls();
    let sent = [0, 0, 0, 1].map(|service: usize| {
        services[service].spawn_get(&token(&format!("waits {}", fastrand::u32(..))))
    });
    verifier.wait_for_calls(calls + 2).await;
    idle().await;
    let in_flight = || recorder.value("verifications_in_flight");
    let waiting = || recorder.value("verifications_waiting");
    assert_eq!((in_flight(), waiting()), (2.0, 2.0));
    drop((services, authenticators));
    verifier.resume(Behavior::Reject);
    join_all(sent.into()).await;
    assert_eq!((in_flight(), waiting()), (0.0, 0.0));
    assert_eq!((entries("accepted"), entries("rejected")), (0.0, 0.0), "dropped with their owner");
}

#[tokio::test]
async fn rejected_entries_are_a_gauge_of_their_own() {
    let recorder = Recorder::new();
    let _recording = recorder.install();
    let authenticator = FakeVerifier::rejecting(RejectReason::Signature).authenticator();
    let service = Service::new(&authenticator);
    for number in 0..1_000 {
        service.blocked(bearer(&token(&number.to_string()))).await;
    }
    let rejected = recorder.value(r#"token_cache_entries{decision="rejected"}"#);
    assert_eq!(rejected, authenticator.metrics().rejected_entries as f64);
    assert!(rejected > 0.0);
}

#[tokio::test]
async fn a_recorder_that_is_installed_later_gets_the_whole_gauge() {
    let service = Service::new(&FakeVerifier::accepting().authenticator());
    for first in [["a", "b"], ["c", "d"]] {
        let recorder = Recorder::new();
        service.get(&token(first[0])).await;
        let _recording = recorder.install();
        service.get(&token(first[1])).await;
        let accepted = recorder.value(r#"token_cache_entries{decision="accepted"}"#);
        assert_eq!(accepted, if first[0] == "a" { 2.0 } else { 4.0 });
    }
}

#[tokio::test]
async fn the_keys_and_their_last_fetch_are_gauges() {
    let recorder = Recorder::new();
    let _recording = recorder.install();
    let fixture = Fixture::start().await;
    let jwks = [(); 2].map(|()| fixture.jwks().build().unwrap());
    jwks[0].refresh().await.unwrap();
    jwks[1].refresh().await.unwrap();
    let (keys, fetched) =
        (|| recorder.value("jwks_keys"), || recorder.value("jwks_last_success_timestamp_seconds"));
    let last = unix(fixture.clock.clock().wall());
    assert_eq!((keys(), fetched()), (2.0, last), "those of two verifiers");
    fixture.clock.advance(Duration::from_secs(60));
    fixture.cluster.set_fault(Endpoint::Jwks, Fault::Status { code: 403, retry_after: None });
    jwks[0].refresh().await.unwrap_err();
    assert_eq!((keys(), fetched()), (2.0, last), "a failed fetch changes neither");
    fixture.cluster.clear_faults();
    jwks[0].refresh().await.unwrap();
    assert_eq!(fetched(), last + 60.0);
    drop(jwks);
    assert_eq!(keys(), 0.0);
}

#[tokio::test]
async fn the_expiry_and_the_last_refresh_of_a_token_source_are_gauges() {
    let recorder = Recorder::new();
    let _recording = recorder.install();
    let fixture = Fixture::start().await;
    let builder = TokenRequestSource::builder(fixture.cluster.admin_client().unwrap());
    let builder = builder.namespace("shop").service_account("checkout").audience("orders");
    let source = builder.clock(fixture.clock.clock()).build().unwrap();
    let token = source.token().await.unwrap();
    let expiry = recorder.value("token_source_expiry_timestamp_seconds");
    assert_eq!(expiry, unix(token.expires_at().unwrap()));
    let refreshed = recorder.value("token_source_last_success_timestamp_seconds");
    assert_eq!(refreshed, unix(fixture.clock.clock().wall()));
}

#[tokio::test]
async fn a_fallback_is_active_from_the_first_failure_to_the_first_answer() {
    let recorder = Recorder::new();
    let _recording = recorder.install();
    let verifier = FakeVerifier::failing();
    let fallback = verifier.clone().or_when_unavailable(FakeVerifier::accepting());
    let service = Service::new(
        &Authenticator::builder(fallback.clock(verifier.clock.clock()))
            .audience("api")
            .clock(verifier.clock.clock())
            .build()
            .unwrap(),
    );
    let active = || recorder.value("fallback_active");
    assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
    assert_eq!(active(), 1.0);
    verifier.set(Behavior::Accept);
    verifier.advance(60.0);
    assert_eq!(service.get(&token("b")).await.status, StatusCode::OK);
    idle().await;
    assert_eq!(active(), 0.0);
}

#[tokio::test]
async fn a_fallback_that_never_decided_is_a_series_with_0() {
    let recorder = Recorder::new();
    let fallback = || FakeVerifier::accepting().or_when_unavailable(FakeVerifier::accepting());
    let before = fallback();
    let _recording = recorder.install();
    let series = || recorder.series().get("fallback_active").copied();
    assert_eq!(series(), None, "there is no fallback");
    let authenticator = Authenticator::builder(before).audience("api").build().unwrap();
    assert_eq!(Service::new(&authenticator).get(&token("a")).await.status, StatusCode::OK);
    assert_eq!(series(), Some(0.0), "with the first request");

    let later = Recorder::new();
    let _recording = later.install();
    let _fallback = fallback();
    assert_eq!(later.series().get("fallback_active"), Some(&0.0), "from the start");
}

#[tokio::test]
async fn a_suspected_outage_makes_the_fallback_active_too() {
    let recorder = Recorder::new();
    let _recording = recorder.install();
    let verifier = FakeVerifier::new(Behavior::Hang);
    let fallback = verifier.clone().or_when_unavailable(FakeVerifier::accepting());
    let authenticator = Authenticator::builder(fallback.clock(verifier.clock.clock()))
        .audience("api")
        .clock(verifier.clock.clock());
    let service = Service::new(&authenticator.build().unwrap());
    let sent = service.spawn_get(&token("a"));
    verifier.wait_for_calls(1).await;
    idle().await;
    assert_eq!(recorder.value("fallback_active"), 0.0);
    verifier.advance(1.0);
    assert_eq!(sent.await.unwrap().status, StatusCode::OK);
    assert_eq!(recorder.value("fallback_active"), 1.0);
    verifier.resume(Behavior::Accept);
    idle().await;
    assert_eq!(recorder.value("fallback_active"), 0.0);
}

#[tokio::test]
async fn the_skew_of_the_clocks_is_a_signed_gauge() {
    for (ahead, behind) in [(0_u32, 0_u32), (90, 0), (0, 90)] {
        let recorder = Recorder::new();
        let _recording = recorder.install();
        let fixture = Fixture::start().await;
        let own = ManualClock::new();
        own.jump_forward(Duration::from_secs(behind.into()));
        own.jump_back(Duration::from_secs(ahead.into()));
        let service = fixture.service(fixture.review().clock(own.clock()));
        assert_eq!(service.get(&fixture.token()).await.status, StatusCode::OK);
        let skew = recorder.value("clock_skew_seconds");
        let expected = f64::from(ahead) - f64::from(behind);
        assert!((skew - expected).abs() <= 1.0, "{skew}, not {expected}");
    }
}

fn unix(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64()
}
