//! Calls to the API server, fetches of keys, and refreshes of a token.

use std::{collections::BTreeMap, time::Duration};

use axum::http::StatusCode;
use serde_json::json;
use tower_kube_auth::{
    authorizer::SubjectAccessReviewAuthorizer,
    client::{TokenRequestSource, TokenSource},
    server::AuthorizeLayer,
    testing::{Endpoint, Fault},
};

use super::{AUTHORIZATIONS, once};
use crate::support::{FakeVerifier, Fixture, Recorder, Service, drive};

const LIMIT: Duration = Duration::from_secs(10);

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
