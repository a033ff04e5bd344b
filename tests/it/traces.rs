//! The spans of what a service waits for, and what is recorded in the request's own span.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::http::StatusCode;
use tower_kube_auth::{
    authorizer::SubjectAccessReviewAuthorizer,
    client::{TokenRequestSource, TokenSource},
    server::AuthorizeLayer,
    testing::{Endpoint, Fault},
    verdict::RejectReason,
};
use tracing::{Instrument, Level, field::Empty, subscriber::DefaultGuard};
use tracing_subscriber::fmt::format::FmtSpan;

use crate::support::{FakeVerifier, Fixture, Service, anonymous, bearer, drive, token};

/// The spans that this thread has closed, as text.
#[derive(Clone, Default)]
struct Closed(Arc<Mutex<Vec<u8>>>);

impl Closed {
    fn watch(level: Level) -> (Self, DefaultGuard) {
        let closed = Self::default();
        let writer = closed.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_ansi(false)
            .with_span_events(FmtSpan::CLOSE)
            .with_writer(move || writer.clone())
            .finish();
        (closed, tracing::subscriber::set_default(subscriber))
    }

    /// Returns the lines in which a span was closed whose name and fields contain `span`. A line has
    /// the spans around it too.
    fn of(&self, span: &str) -> Vec<String> {
        let text = self.text();
        let is_of = |line: &&str| {
            let closed = line.split_once(": close ").and_then(|(line, _)| line.rsplit_once("}: "));
            closed.is_some_and(|(spans, _)| spans.rsplit("}:").next().unwrap().contains(span))
        };
        text.lines().filter(is_of).map(str::to_owned).collect()
    }
}

impl Closed {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl io::Write for Closed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[track_caller]
fn assert_has(line: &str, fields: &[&str]) {
    for field in fields {
        assert!(line.contains(field), "no {field}: {line}");
    }
}

#[tokio::test]
async fn a_verification_and_its_call_have_spans_without_the_token() {
    let fixture = Fixture::start().await;
    let (service, good) = (fixture.service(fixture.review()), fixture.token());
    let (closed, _watching) = Closed::watch(Level::TRACE);
    assert_eq!(service.get(&good).await.status, StatusCode::OK);
    let [call] = &closed.of("call_api_server")[..] else { panic!("one call") };
    let path = "url.path=\"/apis/authentication.k8s.io/v1/tokenreviews\"";
    assert_has(call, &["verify_token", "http.request.method=\"POST\"", path]);
    assert_has(call, &["http.response.status_code=201", "http.request.resend_count=0"]);
    assert_has(call, &["DEBUG", " tower_kube_auth::"]);
    let verifications = closed.of("verify_token{tower_kube_auth.result=\"accepted\"");
    assert_eq!(verifications.len(), 1, "{verifications:?}");

    fixture
        .cluster
        .set_fault(Endpoint::TokenReview, Fault::Status { code: 403, retry_after: None });
    let other = fixture.token();
    service.get(&other).await.assert_unavailable();
    let calls = closed.of("call_api_server");
    assert_has(&calls[1], &["http.response.status_code=403", "error.type=Forbidden"]);
    assert_eq!(closed.of("verify_token{tower_kube_auth.result=\"forbidden\"").len(), 1);
    let text = closed.text();
    for token in [good, other] {
        assert!(!text.contains(token.split('.').nth(1).unwrap()), "a token was logged");
    }
}

#[tokio::test]
async fn an_access_review_and_its_call_have_spans() {
    let fixture = Fixture::start().await;
    let reviews = SubjectAccessReviewAuthorizer::builder(fixture.client());
    let authorize = AuthorizeLayer::new(reviews.clock(fixture.clock.clock()).build().unwrap());
    let authenticator = fixture.authenticator(FakeVerifier::accepting()).build().unwrap();
    let service = Service::behind(|router| router.layer(authorize).layer(authenticator.layer()));
    let (closed, _watching) = Closed::watch(Level::DEBUG);
    assert_eq!(service.get(&fixture.token()).await.status, StatusCode::FORBIDDEN);
    let [call] = &closed.of("call_api_server")[..] else { panic!("one call") };
    let path = "url.path=\"/apis/authorization.k8s.io/v1/subjectaccessreviews\"";
    assert_has(call, &["review_access", path, "http.response.status_code=201"]);
    let reviews = closed.of("review_access{tower_kube_auth.result=\"access_review\"");
    assert_eq!(reviews.len(), 1, "{reviews:?}");
}

#[tokio::test]
async fn each_attempt_of_a_call_has_a_span_with_its_number() {
    let fixture = Fixture::start().await;
    fixture.cluster.set_fault_times(Endpoint::TokenReview, Fault::CutConnection, 2);
    let (service, token) = (fixture.service(fixture.review()), fixture.token());
    let (closed, _watching) = Closed::watch(Level::DEBUG);
    let limit = Duration::from_secs(10);
    let sent = service.get(&token);
    let (answer, _) = drive(&fixture.clock, limit, || false, sent, async || ()).await;
    assert_eq!(answer.status, StatusCode::OK);
    let [first, second, third] = &closed.of("call_api_server")[..] else { panic!("three calls") };
    assert_has(first, &["http.request.resend_count=0", "error.type=Unavailable"]);
    assert_has(second, &["http.request.resend_count=1", "error.type=Unavailable"]);
    assert_has(third, &["http.request.resend_count=2", "http.response.status_code=201"]);
    assert!(!third.contains("error.type"), "{third}");
}

#[tokio::test]
async fn cache_hits_and_verifications_without_io_have_no_span() {
    let fixture = Fixture::start().await;
    let jwks = fixture.jwks().build().unwrap();
    jwks.refresh().await.unwrap();
    let (cached, offline) = (fixture.service(fixture.review()), fixture.service(jwks));
    let token = fixture.token();
    assert_eq!(cached.get(&token).await.status, StatusCode::OK);
    let (closed, _watching) = Closed::watch(Level::DEBUG);
    for service in [cached, offline] {
        assert_eq!(service.get(&token).await.status, StatusCode::OK);
    }
    assert!(!closed.text().contains(": close "), "{}", closed.text());
}

#[tokio::test]
async fn fetches_of_keys_and_refreshes_of_tokens_have_spans() {
    let fixture = Fixture::start().await;
    let (closed, _watching) = Closed::watch(Level::DEBUG);
    let jwks = fixture.jwks().build().unwrap();
    jwks.refresh().await.unwrap();
    let forbidden = Fault::Status { code: 403, retry_after: None };
    fixture.cluster.set_fault(Endpoint::Jwks, forbidden.clone());
    jwks.refresh().await.unwrap_err();
    let fetches = closed.of("fetch_keys{source=the API server");
    let [good, bad] = &fetches[..] else { panic!("two fetches") };
    assert!(!good.contains("error.type"), "{good}");
    assert_has(bad, &["error.type=Forbidden"]);

    fixture.cluster.set_fault(Endpoint::TokenRequest, forbidden);
    let builder = TokenRequestSource::builder(fixture.cluster.admin_client().unwrap());
    let builder = builder.namespace("shop").service_account("checkout").audience("orders");
    builder.clock(fixture.clock.clock()).build().unwrap().token().await.unwrap_err();
    assert_has(&closed.of("refresh_token")[0], &["source=\"TokenRequest"]);
    let refreshes = closed.of("refresh_token");
    assert!(refreshes.iter().any(|line| line.contains("error.type=Forbidden")), "{refreshes:?}");
}

#[tokio::test]
async fn the_requests_span_gets_the_caller_or_the_reason_if_it_has_such_fields() {
    let (closed, _watching) = Closed::watch(Level::INFO);
    let span = || {
        tracing::info_span!(
            "request",
            k8s.namespace.name = Empty,
            k8s.serviceaccount.name = Empty,
            tower_kube_auth.result = Empty,
        )
    };
    let accepting = [FakeVerifier::accepting(), FakeVerifier::accepting_asynchronously()];
    for verifier in accepting {
        let service = Service::new(&verifier.authenticator());
        service.get(&token("a")).instrument(span()).await;
        let line = closed.of("request").pop().unwrap();
        assert_has(&line, &["k8s.namespace.name=\"ns\"", "k8s.serviceaccount.name=\"sa\""]);
        assert_has(&line, &["tower_kube_auth.result=\"accepted\""]);
        let recorded = closed.of("request{").len();
        service.get(&token("a")).instrument(span()).await;
        assert_eq!(closed.of("request{").len(), recorded, "a cache hit records nothing");
    }
    let service = Service::new(&FakeVerifier::rejecting(RejectReason::Audience).authenticator());
    for (request, result) in [(bearer(&token("b")), "audience"), (anonymous(), "no_token")] {
        service.blocked(request).instrument(span()).await;
        let line = closed.of("request").pop().unwrap();
        assert_has(&line, &[&format!("tower_kube_auth.result=\"{result}\"")]);
        assert!(!line.contains("k8s."), "{line}");
    }
    assert!(!closed.text().contains("verify_token"), "the crate's spans are at DEBUG");
}
