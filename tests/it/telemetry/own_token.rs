//! The API server rejects this service's own token: a failure with a `result` of its own, which no
//! caller's token has.

use std::collections::BTreeSet;

use tower_kube_auth::{
    JwksVerifier, TokenReviewVerifier,
    authorizer::{AuthorizeErrorKind, SubjectAccessReviewAuthorizer},
    client::{TokenErrorKind, TokenRequestSource, TokenSource},
    error::VerifyErrorKind,
    server::AuthorizeLayer,
};

use super::{ATTEMPTS, AUTHORIZATIONS, REJECT_REASONS, VERIFY_ERRORS, once};
use crate::support::{FakeVerifier, Fixture, Recorder, Service, bearer};

const OWN_TOKEN_REJECTED: &str = "own_token_rejected";

/// Returns a client whose token the API server does not accept.
fn rejected_client(fixture: &Fixture) -> kube::Client {
    fixture.cluster.client_for("expired").unwrap()
}

#[tokio::test]
async fn a_rejected_caller_and_a_rejected_service_are_told_apart() {
    let recorder = Recorder::new();
    let _recording = recorder.install();
    let fixture = Fixture::start().await;
    let token = fixture.token();
    let review = TokenReviewVerifier::new(rejected_client(&fixture)).clock(fixture.clock.clock());
    fixture.service(review).get(&token).await.assert_unavailable();
    fixture.cluster.delete_service_account("shop", "checkout");
    fixture.service(fixture.review()).blocked(bearer(&token)).await;
    let expected = [OWN_TOKEN_REJECTED, "unauthenticated"].map(|result| (result.into(), 1.0));
    assert_eq!(recorder.by_label(ATTEMPTS), expected.clone().into());
    let durations = recorder.by_label("authentication_duration_seconds_count");
    assert_eq!(durations, expected.into());
}

#[tokio::test]
async fn reviews_of_access_key_fetches_and_token_requests_have_the_same_result() {
    let recorder = Recorder::new();
    let _recording = recorder.install();
    let fixture = Fixture::start().await;
    let reviews = SubjectAccessReviewAuthorizer::builder(rejected_client(&fixture));
    let authorize = AuthorizeLayer::new(reviews.clock(fixture.clock.clock()).build().unwrap());
    let authenticator = fixture.authenticator(FakeVerifier::accepting()).build().unwrap();
    let service = Service::behind(|router| router.layer(authorize).layer(authenticator.layer()));
    service.get(&fixture.token()).await.assert_unavailable();
    assert_eq!(recorder.by_label(AUTHORIZATIONS), once(OWN_TOKEN_REJECTED));
    let durations = recorder.by_label("authorization_duration_seconds_count");
    assert_eq!(durations, once(OWN_TOKEN_REJECTED));

    let keys = JwksVerifier::in_cluster(rejected_client(&fixture)).clock(fixture.clock.clock());
    keys.build().unwrap().refresh().await.unwrap_err();
    assert_eq!(recorder.by_label("jwks_fetches_total"), once(OWN_TOKEN_REJECTED));

    let builder = TokenRequestSource::builder(rejected_client(&fixture));
    let builder = builder.namespace("shop").service_account("checkout").audience("orders");
    builder.clock(fixture.clock.clock()).build().unwrap().token().await.unwrap_err();
    assert_eq!(recorder.by_label("token_source_refreshes_total"), once(OWN_TOKEN_REJECTED));
}

#[test]
fn no_two_outcomes_of_an_authentication_have_the_same_name() {
    let reasons = REJECT_REASONS.map(|reason| reason.as_str());
    let failures = VERIFY_ERRORS.map(VerifyErrorKind::as_str);
    let names = [&["accepted", "no_token", "invalid_request"][..], &reasons, &failures].concat();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    assert_eq!(AuthorizeErrorKind::Unauthenticated.as_str(), OWN_TOKEN_REJECTED);
    assert_eq!(TokenErrorKind::Unauthenticated.as_str(), OWN_TOKEN_REJECTED);
}
