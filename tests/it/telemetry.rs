//! The metrics that a service records: names, labels, and that each outcome counts as itself.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::http::StatusCode;
use serde_json::json;
use tower_kube_auth::{
    ServiceAccountIdentity,
    authorizer::{
        AllowList, AuthorizeError, AuthorizeErrorKind, Authorizer, Decision, DenyReason,
        RequestHead, SubjectAccessReviewAuthorizer,
    },
    client::{TokenRequestSource, TokenSource},
    error::{VerifyError, VerifyErrorKind},
    server::AuthorizeLayer,
    testing::{Endpoint, Fault},
    verdict::{RejectReason, Verdict},
};

use crate::support::{
    Behavior, FakeVerifier, Fixture, Recorder, Service, accept, anonymous, bearer, drive, token,
    with_header,
};

const ATTEMPTS: &str = "authentication_attempts_total";
const AUTHORIZATIONS: &str = "authorization_attempts_total";
const LIMIT: Duration = Duration::from_secs(10);
const CACHE: &str = "token_cache_requests_total";

const REJECT_REASONS: [RejectReason; 13] = [
    RejectReason::Malformed,
    RejectReason::Algorithm,
    RejectReason::UnknownKey,
    RejectReason::Signature,
    RejectReason::Issuer,
    RejectReason::Audience,
    RejectReason::Expired,
    RejectReason::NotYetValid,
    RejectReason::LifetimeTooLong,
    RejectReason::NotAServiceAccount,
    RejectReason::Unauthenticated,
    RejectReason::Deleted,
    RejectReason::Denied,
];

const VERIFY_ERRORS: [VerifyErrorKind; 9] = [
    VerifyErrorKind::Unavailable,
    VerifyErrorKind::Timeout,
    VerifyErrorKind::RateLimited,
    VerifyErrorKind::Unauthenticated,
    VerifyErrorKind::Forbidden,
    VerifyErrorKind::Inconclusive,
    VerifyErrorKind::InvalidResponse,
    VerifyErrorKind::Saturated,
    VerifyErrorKind::Aborted,
];

fn once(label: &str) -> BTreeMap<String, f64> {
    [(label.to_owned(), 1.0)].into()
}

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
async fn hits_of_all_threads_add_up() {
    const THREADS: usize = 40;
    const HITS: usize = 250;
    let recorder = Recorder::new();
    let verifier = FakeVerifier::accepting();
    let authenticator = Arc::new(verifier.authenticator());
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

    /// Decides after a wait.
    struct Scripted(Result<Decision, AuthorizeError>);

    impl Authorizer for Scripted {
        async fn authorize(
            &self,
            _: &ServiceAccountIdentity,
            _: RequestHead<'_>,
        ) -> Result<Decision, AuthorizeError> {
            tokio::task::yield_now().await;
            self.0.clone()
        }
    }

    let denied = REASONS.map(|reason| (reason.as_str(), Ok(Decision::Deny(reason))));
    let failed = ERRORS.map(|kind| (kind.as_str(), Err(AuthorizeError::new(kind, "a failure"))));
    let outcomes = denied.into_iter().chain(failed).chain([("allowed", Ok(Decision::Allow))]);
    for (result, outcome) in outcomes {
        let recorder = Recorder::new();
        let _recording = recorder.install();
        let authenticator = FakeVerifier::accepting().authenticator();
        let authorize = AuthorizeLayer::new(Scripted(outcome));
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

/// What the API server answers to a call, and the code that it counts as.
fn faults() -> [(Option<Fault>, &'static str, f64); 4] {
    [
        (None, "201", 1.0),
        (Some(Fault::Status { code: 403, retry_after: None }), "403", 1.0),
        (Some(Fault::Status { code: 429, retry_after: Some(60) }), "429", 1.0),
        // A broken connection is retried.
        (Some(Fault::CutConnection), "error", 5.0),
    ]
}

#[tokio::test]
async fn each_attempt_of_a_token_review_counts_by_its_status() {
    for (fault, code, attempts) in faults() {
        let recorder = Recorder::new();
        let _recording = recorder.install();
        let fixture = Fixture::start().await;
        if let Some(fault) = fault {
            fixture.cluster.set_fault(Endpoint::TokenReview, fault);
        }
        let (service, token) = (fixture.service(fixture.review()), fixture.token());
        drive(&fixture.clock, LIMIT, || false, service.get(&token), async || ()).await;
        let expected: BTreeMap<_, _> = [(code.to_owned(), attempts)].into();
        assert_eq!(recorder.by_label("delegated_authn_requests_total"), expected);
        assert_eq!(recorder.by_label("delegated_authn_request_duration_seconds_count"), expected);
        assert_eq!(recorder.by_label("delegated_authz_requests_total"), [].into());
    }
}

#[tokio::test]
async fn an_attempt_that_the_time_limit_ends_counts_as_an_error_and_lasts_as_long() {
    let recorder = Recorder::new();
    let _recording = recorder.install();
    let fixture = Fixture::start().await;
    fixture.cluster.set_fault(Endpoint::TokenReview, Fault::Hang);
    let review = fixture.review().timeout(Duration::from_secs(2));
    let (service, token) = (fixture.service(review), fixture.token());
    let held = || fixture.cluster.calls(Endpoint::TokenReview) == 1;
    let limit = Duration::from_secs(2);
    drive(&fixture.clock, limit, held, service.get(&token), async || ()).await;
    assert_eq!(recorder.by_label("delegated_authn_requests_total"), once("error"));
    let seconds = recorder.by_label("delegated_authn_request_duration_seconds_sum");
    assert_eq!(seconds, [("error".to_owned(), 2.0)].into());
    assert_eq!(recorder.by_label("authentication_duration_seconds_sum")["timeout"], 2.0);
}

#[tokio::test]
async fn each_attempt_of_an_access_review_counts_by_its_status() {
    for (fault, code, attempts) in faults() {
        let recorder = Recorder::new();
        let _recording = recorder.install();
        let fixture = Fixture::start().await;
        if let Some(fault) = fault {
            fixture.cluster.set_fault(Endpoint::SubjectAccessReview, fault);
        }
        let reviews = SubjectAccessReviewAuthorizer::builder(fixture.client());
        let reviews = reviews.clock(fixture.clock.clock()).build().unwrap();
        let (authenticator, authorize) = (
            fixture.authenticator(FakeVerifier::accepting()).build().unwrap(),
            AuthorizeLayer::new(reviews),
        );
        let service =
            Service::behind(|router| router.layer(authorize).layer(authenticator.layer()));
        let token = fixture.token();
        drive(&fixture.clock, LIMIT, || false, service.get(&token), async || ()).await;
        let expected: BTreeMap<_, _> = [(code.to_owned(), attempts)].into();
        assert_eq!(recorder.by_label("delegated_authz_requests_total"), expected);
        assert_eq!(recorder.by_label("delegated_authz_request_duration_seconds_count"), expected);
        assert_eq!(recorder.by_label("delegated_authn_requests_total"), [].into());
        let result = match code {
            "201" => "access_review",
            "403" => "forbidden",
            "429" => "rate_limited",
            _ => "unavailable",
        };
        assert_eq!(recorder.by_label("authorization_duration_seconds_count"), once(result));
        assert_eq!(recorder.by_label(AUTHORIZATIONS), once(result));
    }
}

#[tokio::test]
async fn a_cached_access_review_counts_as_an_attempt_and_has_no_duration() {
    let recorder = Recorder::new();
    let _recording = recorder.install();
    let fixture = Fixture::start().await;
    let rule = json!({"nonResourceURLs": ["/"], "verbs": ["get"]});
    fixture.cluster.grant("system:serviceaccount:shop:checkout", &rule);
    let authorize = AuthorizeLayer::new(SubjectAccessReviewAuthorizer::new(fixture.client()));
    let authenticator = fixture.authenticator(fixture.review()).build().unwrap();
    let service = Service::behind(|router| router.layer(authorize).layer(authenticator.layer()));
    let token = fixture.token();
    for _ in 0..3 {
        assert_eq!(service.get(&token).await.status, StatusCode::OK);
    }
    drop(service);
    assert_eq!(recorder.by_label("authorization_duration_seconds_count"), once("allowed"));
    assert_eq!(recorder.by_label(AUTHORIZATIONS), [("allowed".to_owned(), 3.0)].into());
}

#[tokio::test]
async fn each_fetch_of_keys_counts_by_its_result() {
    let recorder = Recorder::new();
    let _recording = recorder.install();
    let fixture = Fixture::start().await;
    let jwks = fixture.jwks().build().unwrap();
    let fetches = || recorder.by_label("jwks_fetches_total");
    jwks.refresh().await.unwrap();
    assert_eq!(fetches(), once("success"));
    let forbidden = Fault::Status { code: 403, retry_after: None };
    fixture.cluster.set_fault(Endpoint::Jwks, forbidden);
    jwks.refresh().await.unwrap_err();
    fixture.cluster.set_fault(Endpoint::Jwks, Fault::Body("[]".into()));
    jwks.refresh().await.unwrap_err();
    let expected = ["success", "forbidden", "invalid_response"].map(|result| (result.into(), 1.0));
    assert_eq!(fetches(), expected.into());
}

#[tokio::test]
async fn each_attempt_of_a_token_source_counts_by_its_result() {
    let recorder = Recorder::new();
    let _recording = recorder.install();
    let fixture = Fixture::start().await;
    let source = || {
        let builder = TokenRequestSource::builder(fixture.cluster.admin_client().unwrap());
        let builder = builder.namespace("shop").service_account("checkout").audience("orders");
        builder.clock(fixture.clock.clock()).build().unwrap()
    };
    let refreshes = || recorder.by_label("token_source_refreshes_total");
    source().token().await.unwrap();
    assert_eq!(refreshes(), once("success"));
    let forbidden = Fault::Status { code: 403, retry_after: None };
    fixture.cluster.set_fault(Endpoint::TokenRequest, forbidden);
    source().token().await.unwrap_err();
    let expected = ["success", "forbidden"].map(|result| (result.into(), 1.0));
    assert_eq!(refreshes(), expected.into());
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
