//! The outcomes of requests, and the look-ups in the cache.

use axum::http::StatusCode;
use tower_kube_auth::{
    authorizer::{AllowList, AuthorizeErrorKind, Decision, DenyReason},
    error::VerifyError,
    server::AuthorizeLayer,
    verdict::{RejectReason, Verdict},
};

use super::{ATTEMPTS, AUTHORIZATIONS, REJECT_REASONS, VERIFY_ERRORS, once};
use crate::support::{
    Behavior, FakeAuthorizer, FakeVerifier, Recorder, Service, accept, anonymous, bearer, token,
    with_header,
};

const CACHE: &str = "token_cache_requests_total";

#[tokio::test]
async fn every_outcome_of_an_authentication_counts_as_itself_and_only_once() {
    for waits in [false, true] {
        let scripted = |outcome: Result<Verdict, VerifyError>| {
            FakeVerifier::scripted(move |_| {
                let outcome = outcome.clone();
                async move {
                    if waits {
                        tokio::task::yield_now().await;
                    }
                    outcome
                }
            })
        };
        let rejected = REJECT_REASONS.map(|reason| (reason.as_str(), Ok(Verdict::Reject(reason))));
        let failed =
            VERIFY_ERRORS.map(|kind| (kind.as_str(), Err(VerifyError::new(kind, "a failure"))));
        let outcomes = rejected.into_iter().chain(failed).chain([("accepted", Ok(accept()))]);
        for (result, outcome) in outcomes {
            let recorder = Recorder::new();
            let _recording = recorder.install();
            let authenticator = scripted(outcome).authenticator();
            Service::new(&authenticator).get(&token("a")).await;
            assert_eq!(recorder.by_label(ATTEMPTS), once(result));
            let durations = recorder.by_label("authentication_duration_seconds_count");
            assert_eq!(durations, once(result));
            assert_eq!(recorder.by_label(CACHE), once("miss"));
        }
    }
}

#[tokio::test]
async fn requests_without_a_usable_token_count_without_a_look_up() {
    let recorder = Recorder::new();
    let _recording = recorder.install();
    let authenticator = FakeVerifier::accepting().authenticator();
    let service = Service::new(&authenticator);
    service.blocked(anonymous()).await;
    service.blocked(with_header("authorization", "Bearer two words")).await;
    service.blocked(with_header("authorization", "Bearer")).await;
    let expected = [("no_token".to_owned(), 1.0), ("invalid_request".to_owned(), 2.0)];
    assert_eq!(recorder.by_label(ATTEMPTS), expected.into());

    let optional = authenticator.layer().optional();
    let optional = Service::behind(move |router| router.layer(optional));
    assert_eq!(optional.send(anonymous()).await.status, StatusCode::OK);
    assert_eq!(recorder.value(r#"authentication_attempts_total{result="no_token"}"#), 2.0);

    let report_only = authenticator.layer().dangerous_report_only();
    let report_only = Service::behind(move |router| router.layer(report_only));
    assert_eq!(report_only.send(anonymous()).await.status, StatusCode::OK);
    assert_eq!(recorder.value(r#"authentication_attempts_total{result="no_token"}"#), 3.0);
    assert_eq!(recorder.by_label(CACHE), [].into());
}

#[tokio::test]
async fn hits_are_published_once_a_second_and_the_rest_on_drop() {
    let recorder = Recorder::new();
    let _recording = recorder.install();
    let verifier = FakeVerifier::accepting();
    let authenticator = verifier.authenticator();
    let service = Service::new(&authenticator);
    let accepted = || recorder.value(r#"authentication_attempts_total{result="accepted"}"#);
    let hits = || recorder.value(r#"token_cache_requests_total{status="hit"}"#);
    service.get(&token("a")).await;
    assert_eq!((accepted(), hits()), (1.0, 0.0));
    verifier.advance(1.0);
    for _ in 0..5 {
        service.get(&token("a")).await;
    }
    assert_eq!((accepted(), hits()), (2.0, 1.0), "the first of this second");
    verifier.advance(1.0);
    service.get(&token("a")).await;
    assert_eq!((accepted(), hits()), (7.0, 6.0));
    service.get(&token("a")).await;
    drop((service, authenticator));
    assert_eq!((accepted(), hits()), (8.0, 7.0));
    assert_eq!(recorder.by_label(CACHE)["miss"], 1.0);
    assert_eq!(verifier.calls(), 1);
}

#[tokio::test]
async fn hits_of_many_tokens_are_published_once_a_second_too() {
    let recorder = Recorder::new();
    let _recording = recorder.install();
    let verifier = FakeVerifier::accepting();
    let service = Service::new(&verifier.authenticator());
    let hits = || recorder.value(r#"token_cache_requests_total{status="hit"}"#);
    let tokens = ["a", "b", "c"].map(token);
    for token in &tokens {
        service.get(token).await;
    }
    verifier.advance(1.0);
    for token in &tokens {
        service.get(token).await;
    }
    assert_eq!(hits(), 1.0);
    verifier.advance(1.0);
    service.get(&tokens[0]).await;
    assert_eq!(hits(), 4.0);
}

#[tokio::test]
async fn hits_of_all_threads_add_up() {
    const THREADS: usize = 40;
    const HITS: usize = 250;
    let recorder = Recorder::new();
    let verifier = FakeVerifier::accepting();
    let authenticator = verifier.authenticator();
    let service = Service::new(&authenticator);
    service.get(&token("a")).await;
    // The threads of the hits have no recorder, so that nothing is published by them.
    verifier.advance(1.0);
    service.get(&token("a")).await;
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            let service = service.clone();
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                for _ in 0..HITS {
                    assert_eq!(runtime.block_on(service.get(&token("a"))).status, StatusCode::OK);
                }
            });
        }
    });
    let _recording = recorder.install();
    drop((service, authenticator));
    let hits = recorder.value(r#"token_cache_requests_total{status="hit"}"#);
    assert_eq!(hits, (THREADS * HITS) as f64);
}

#[tokio::test]
async fn a_cached_rejection_is_a_hit() {
    let recorder = Recorder::new();
    let _recording = recorder.install();
    let service = Service::new(&FakeVerifier::rejecting(RejectReason::Signature).authenticator());
    for _ in 0..3 {
        service.blocked(bearer(&token("a"))).await;
    }
    assert_eq!(recorder.by_label(ATTEMPTS), [("signature".to_owned(), 3.0)].into());
    let expected = [("hit".to_owned(), 2.0), ("miss".to_owned(), 1.0)];
    assert_eq!(recorder.by_label(CACHE), expected.into());
    assert_eq!(
        recorder.by_label("authentication_duration_seconds_count"),
        once("signature"),
        "of verifications only"
    );
}

#[tokio::test]
async fn every_outcome_of_an_authorization_counts_as_itself() {
    const ERRORS: [AuthorizeErrorKind; 8] = [
        AuthorizeErrorKind::Unavailable,
        AuthorizeErrorKind::Timeout,
        AuthorizeErrorKind::RateLimited,
        AuthorizeErrorKind::Unauthenticated,
        AuthorizeErrorKind::Forbidden,
        AuthorizeErrorKind::InvalidResponse,
        AuthorizeErrorKind::Saturated,
        AuthorizeErrorKind::Aborted,
    ];
    const REASONS: [DenyReason; 5] = [
        DenyReason::NotListed,
        DenyReason::AccessReview,
        DenyReason::NoAttributes,
        DenyReason::NoRuleForAudience,
        DenyReason::Custom("a reason in words"),
    ];

    let denied = REASONS.map(|reason| (reason.as_str(), Ok(Decision::Deny(reason))));
    let failed = ERRORS.map(|kind| (kind.as_str(), Err(kind)));
    let outcomes = denied.into_iter().chain(failed).chain([("allowed", Ok(Decision::Allow))]);
    for (result, outcome) in outcomes {
        let recorder = Recorder::new();
        let _recording = recorder.install();
        let authenticator = FakeVerifier::accepting().authenticator();
        let authorize = AuthorizeLayer::new(FakeAuthorizer(outcome));
        let service =
            Service::behind(|router| router.layer(authorize).layer(authenticator.layer()));
        service.get(&token("a")).await;
        assert_eq!(recorder.by_label(AUTHORIZATIONS), once(result));
    }
}

#[tokio::test]
async fn decisions_of_an_allow_list_count_and_the_rest_on_drop() {
    let recorder = Recorder::new();
    let _recording = recorder.install();
    let authenticator = FakeVerifier::new(Behavior::Accept).authenticator();
    let authorize = AuthorizeLayer::new(AllowList::new(["ns/checkout"]).unwrap());
    let service =
        Service::behind(|router| router.layer(authorize.clone()).layer(authenticator.layer()));
    for _ in 0..4 {
        assert_eq!(service.get(&token("checkout")).await.status, StatusCode::OK);
    }
    service.blocked(bearer(&token("basket"))).await;
    assert!(recorder.by_label(AUTHORIZATIONS)["allowed"] >= 1.0);
    drop((service, authorize));
    let expected = [("allowed".to_owned(), 4.0), ("not_listed".to_owned(), 1.0)];
    assert_eq!(recorder.by_label(AUTHORIZATIONS), expected.into());
}

#[tokio::test]
async fn metrics_are_described_to_a_recorder_that_is_installed_later() {
    let recorder = Recorder::new();
    let service = Service::new(&FakeVerifier::accepting().authenticator());
    service.get(&token("a")).await;
    let _recording = recorder.install();
    service.get(&token("b")).await;
    let text = recorder.text();
    let metric = "tower_kube_auth_authentication_attempts_total";
    assert!(text.contains(&format!("# HELP {metric} ")), "{text}");
    assert!(text.contains(&format!("# TYPE {metric} counter")), "{text}");
}
