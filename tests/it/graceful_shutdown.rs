//! `Authenticator::shutdown`: what is under way, what comes later, and the tasks that are left.

use std::{convert::Infallible, time::Duration};

use axum::http::{Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::Full;
use tokio::runtime::Handle;
use tower_kube_auth::{
    ApiServer, BearerToken, DynVerifier, JwksVerifier, Verdict, VerifierExt,
    authenticator::SelfCheck,
    authorizer::{AuthorizeErrorKind, Authorizer, RequestHead, SubjectAccessReviewAuthorizer},
    readiness::NeedState,
    testing::{Cluster, Endpoint},
};

use crate::support::{Behavior, FakeVerifier, Fixture, Service, bearer, idle, token, until};

const LIMIT: Duration = Duration::from_secs(5);
const MILLISECOND: Duration = Duration::from_millis(1);

/// The tasks of the test's runtime. No client has a connection in these tests.
fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

async fn no_tasks_are_left() {
    until("no task is left", async || tasks() == 0).await;
}

/// Returns an API server without connections, which publishes the keys of `cluster`, or never
/// answers.
fn key_server(cluster: &Cluster, answers: bool) -> ApiServer {
    let (issuer, jwks) = (cluster.issuer().to_owned(), cluster.jwks_json());
    ApiServer::from_service(tower::service_fn(move |request: Request<Bytes>| {
        let document = match request.uri().path() {
            "/openid/v1/jwks" => jwks.clone(),
            _ => serde_json::json!({ "issuer": issuer, "jwks_uri": "" }).to_string(),
        };
        async move {
            if !answers {
                std::future::pending::<()>().await;
            }
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(document)))
        }
    }))
}

#[tokio::test]
async fn a_verification_under_way_may_end_within_the_limit_and_is_aborted_after_it() {
    for ends in [true, false] {
        let verifier = FakeVerifier::new(Behavior::Hang);
        let auth = verifier.authenticator();
        let service = Service::new(&auth);
        let request = service.spawn_get(&token("sa"));
        verifier.wait_for_calls(1).await;
        let shutdown = tokio::spawn(async move { auth.shutdown(LIMIT).await });
        idle().await;
        verifier.clock.advance(LIMIT - MILLISECOND);
        idle().await;
        assert!(!shutdown.is_finished());
        if ends {
            verifier.resume(Behavior::Accept);
        } else {
            verifier.clock.advance(MILLISECOND);
        }
        shutdown.await.unwrap();
        let answer = request.await.unwrap();
        if ends {
            assert_eq!(answer.status, StatusCode::OK);
        } else {
            answer.assert_unavailable();
        }
        assert_eq!(service.reached(), usize::from(ends), "requests that the handler received");
        no_tasks_are_left().await;
    }
}

#[tokio::test]
async fn after_the_shutdown_cached_callers_are_served_and_all_others_undecided() {
    let verifier = FakeVerifier::new(Behavior::Accept);
    let auth = verifier.authenticator();
    let service = Service::new(&auth);
    assert_eq!(service.get(&token("known")).await.status, StatusCode::OK);
    verifier.set(Behavior::Reject);
    service.blocked(bearer(&token("rejected"))).await.assert_invalid_token("before");
    auth.shutdown(LIMIT).await;

    let calls = verifier.calls();
    assert_eq!(service.get(&token("known")).await.status, StatusCode::OK);
    service.blocked(bearer(&token("rejected"))).await.assert_invalid_token("cached");
    service.blocked(bearer(&token("new"))).await.assert_unavailable();
    // The pre-check would reject it.
    service.blocked(bearer("no-jwt")).await.assert_unavailable();
    // Past 80 % of the TTL a hit is verified again otherwise, and past the TTL it is none.
    verifier.advance(52.0);
    assert_eq!(service.get(&token("known")).await.status, StatusCode::OK);
    verifier.advance(15.0);
    service.blocked(bearer(&token("known"))).await.assert_unavailable();
    assert_eq!((verifier.calls(), tasks()), (calls, 0));
}

#[tokio::test]
async fn keys_decide_nothing_after_the_shutdown() {
    let fixture = Fixture::start().await;
    let keys = JwksVerifier::from_jwks(fixture.cluster.jwks_json());
    let keys = keys.issuer(fixture.cluster.issuer()).clock(fixture.clock.clock());
    let auth = fixture.authenticator(keys.build().unwrap()).build().unwrap();
    let service = Service::new(&auth);
    let known = fixture.token();
    assert_eq!(service.get(&known).await.status, StatusCode::OK);
    auth.shutdown(LIMIT).await;
    assert_eq!(service.get(&known).await.status, StatusCode::OK);
    service.blocked(bearer(&fixture.token())).await.assert_unavailable();
    let wrong = fixture.cluster.token("shop", "checkout").audience("other").issue().unwrap();
    service.blocked(bearer(&wrong)).await.assert_unavailable();
}

#[tokio::test]
async fn the_background_tasks_of_nested_verifiers_end() {
    let fixture = Fixture::start().await;
    let before = tasks();
    let keys = JwksVerifier::in_cluster(key_server(&fixture.cluster, true));
    let keys = keys.clock(fixture.clock.clock()).build().unwrap();
    let stuck = JwksVerifier::in_cluster(key_server(&fixture.cluster, false));
    let stuck = stuck.clock(fixture.clock.clock()).build().unwrap();
    let hanging = FakeVerifier::new(Behavior::Hang);
    let nested = hanging
        .clone()
        .or_when_inconclusive(keys.clone())
        .screened_by(keys.clone())
        .or_when_unavailable(keys.clone().or_when_inconclusive(stuck.clone()))
        .clock(fixture.clock.clock());
    let auth = fixture.authenticator(DynVerifier::new(nested)).build().unwrap();
    keys.refresh().await.unwrap();
    let asked = fixture.token();
    let request = tokio::spawn({
        let (auth, asked) = (auth.clone(), asked.clone());
        async move { auth.authenticate(BearerToken::parse(&asked).unwrap()).await }
    });
    hanging.wait_for_calls(1).await;
    // An outage is suspected, and the fallback decides. The call goes on in the background.
    fixture.clock.advance(Duration::from_secs(1));
    assert!(matches!(request.await.unwrap(), Ok(Verdict::Accept(_))));
    until("the other keys are fetched", async || stuck.metrics().fetches == 1).await;
    // The call, the fetch, and the periodic refresh of each key set.
    until("the verification has ended", async || tasks() == before + 4).await;

    auth.shutdown(LIMIT).await;
    until("the tasks end", async || tasks() == before).await;

    // Another authenticator with the same keys goes on, and refreshes them.
    let other = fixture.authenticator(keys).build().unwrap();
    let token = fixture.token();
    let verdict = other.authenticate(BearerToken::parse(&token).unwrap()).await;
    assert!(matches!(verdict, Ok(Verdict::Accept(_))), "{verdict:?}");
    assert_eq!(tasks(), before + 1);
}

#[tokio::test]
async fn the_self_check_reports_the_shutdown_and_asks_nobody() {
    let fixture = Fixture::start().await;
    let auth = fixture.authenticator(fixture.review()).build().unwrap();
    auth.shutdown(LIMIT).await;
    let readiness = SelfCheck::new(&auth).run().await;
    assert!(readiness.to_string().contains("shut down"), "{readiness}");
    assert_eq!(readiness.needs[0].state, NeedState::Missing);
    assert_eq!(fixture.cluster.calls(Endpoint::All), 0);
}

#[tokio::test]
async fn a_review_that_does_not_end_within_the_limit_is_aborted() {
    let fixture = Fixture::start().await;
    let keys = JwksVerifier::from_jwks(fixture.cluster.jwks_json());
    let keys = keys.issuer(fixture.cluster.issuer()).clock(fixture.clock.clock());
    let auth = fixture.authenticator(keys.build().unwrap()).build().unwrap();
    let caller = fixture.token();
    let verdict = auth.authenticate(BearerToken::parse(&caller).unwrap()).await;
    let Ok(Verdict::Accept(acceptance)) = verdict else { panic!("{verdict:?}") };
    let before = tasks();
    let silent = key_server(&fixture.cluster, false);
    let authorizer = SubjectAccessReviewAuthorizer::builder(silent).clock(fixture.clock.clock());
    let authorizer = authorizer.build().unwrap();
    let ask = || {
        let (authorizer, identity) = (authorizer.clone(), acceptance.identity().clone());
        async move {
            let request = Request::get("/metrics").body(()).unwrap();
            authorizer.authorize(&identity, RequestHead::from(&request)).await
        }
    };
    let asked = tokio::spawn(ask());
    idle().await;
    let shutdown = tokio::spawn({
        let authorizer = authorizer.clone();
        async move { authorizer.shutdown(LIMIT).await }
    });
    idle().await;
    fixture.clock.advance(LIMIT - MILLISECOND);
    idle().await;
    assert!(!shutdown.is_finished());
    fixture.clock.advance(MILLISECOND);
    shutdown.await.unwrap();
    for outcome in [asked.await.unwrap(), ask().await] {
        assert_eq!(outcome.unwrap_err().kind(), AuthorizeErrorKind::Aborted);
    }
    until("the tasks end", async || tasks() == before).await;
}
