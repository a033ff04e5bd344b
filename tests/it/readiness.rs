//! The self-check and `/readyz`.

use std::time::Duration;

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode},
};
use http_body_util::BodyExt;
use tower::ServiceExt;
use tower_kube_auth::{
    ApiServer, Authenticator, DynVerifier, VerifierExt,
    authenticator::SelfCheck,
    authorizer::{AllowList, SubjectAccessReviewAuthorizer, all_of, any_of},
    client::{StaticToken, Token},
    readiness::{NeedState, Readiness},
    server::Readyz,
    testing::{Cluster, Endpoint, Fault},
};

use crate::support::{Fixture, until};

fn states(readiness: &Readiness) -> Vec<(&str, NeedState)> {
    readiness.needs.iter().map(|need| (&*need.name, need.state)).collect()
}

fn state_of(readiness: &Readiness, name: &str) -> NeedState {
    readiness.needs.iter().find(|need| need.name == name).unwrap().state
}

fn unavailable() -> Fault {
    Fault::Status { code: 400, retry_after: None }
}

async fn get(app: &Router, path: &str) -> (StatusCode, String) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let (head, body) = app.clone().oneshot(request).await.unwrap().into_parts();
    (head.status, String::from_utf8(body.collect().await.unwrap().to_bytes().into()).unwrap())
}

fn app(auth: &Authenticator) -> Router {
    Router::new().route_service("/readyz", Readyz::new(SelfCheck::new(auth)))
}

#[tokio::test]
async fn a_missing_right_is_named_with_its_remedy() {
    let fixture = Fixture::start().await;
    let auth = fixture.authenticator(fixture.review()).build().unwrap();
    let met = [("create tokenreviews", NeedState::Met), ("clock", NeedState::Met)];
    assert_eq!(states(&auth.check().await), met);

    fixture.cluster.revoke(Cluster::VERIFIER);
    let readiness = auth.check().await;
    assert_eq!(state_of(&readiness, "create tokenreviews"), NeedState::Missing);
    assert!(readiness.to_string().contains("--clusterrole=system:auth-delegator"), "{readiness}");
    let json = serde_json::to_value(&readiness).unwrap();
    assert_eq!(json["needs"][0]["state"], "missing");

    fixture.cluster.revoke_basic_user();
    let readiness = auth.check().await;
    assert_eq!(states(&readiness), [("create tokenreviews", NeedState::Degraded)]);
}

#[tokio::test]
async fn wrappers_pass_on_what_their_inner_ones_need() {
    let fixture = Fixture::start().await;
    fixture.cluster.revoke(Cluster::VERIFIER);
    let review = fixture.review().screened_by(fixture.jwks().build().unwrap());
    let auth = fixture.authenticator(DynVerifier::new(review)).build().unwrap();
    let api = ApiServer::from(fixture.client());
    let sar = SubjectAccessReviewAuthorizer::builder(api).clock(fixture.clock.clock());
    let rule = any_of(AllowList::any_authenticated(), sar.build().unwrap());
    let check = SelfCheck::new(&auth).authorizer(all_of(rule, AllowList::any_authenticated()));
    let readiness = check.run().await;
    assert_eq!(
        states(&readiness),
        [
            ("create tokenreviews", NeedState::Missing),
            ("clock", NeedState::Met),
            ("keys", NeedState::Met),
            ("create subjectaccessreviews", NeedState::Missing),
        ]
    );
}

#[tokio::test]
async fn a_skewed_clock_is_told_and_takes_nothing_out_of_service() {
    let fixture = Fixture::start().await;
    let skewed = tower_kube_auth::testing::ManualClock::new();
    let review = fixture.review().clock(skewed.clock());
    let auth = fixture.authenticator(review).build().unwrap();
    for (jump, state) in [(50, NeedState::Met), (100, NeedState::Degraded)] {
        skewed.jump_forward(Duration::from_secs(jump));
        assert_eq!(state_of(&auth.check().await, "clock"), state);
    }
    skewed.jump_back(Duration::from_secs(300));
    let readiness = auth.check().await;
    assert_eq!(state_of(&readiness, "clock"), NeedState::Degraded);
    assert!(readiness.is_ready(false) && !readiness.all_met());
}

#[tokio::test]
async fn a_fallback_with_keys_makes_an_outage_of_the_api_server_bearable() {
    let fixture = Fixture::start().await;
    let keys = fixture.jwks().build().unwrap();
    let auth = fixture.authenticator(fixture.review().or_when_unavailable(keys.clone()));
    let auth = auth.build().unwrap();
    fixture.cluster.set_fault(Endpoint::All, unavailable());
    let readiness = auth.check().await;
    assert_eq!(state_of(&readiness, "create tokenreviews"), NeedState::Unknown);
    assert!(!readiness.is_ready(false) && readiness.is_ready(true));
    fixture.cluster.clear_faults();
    keys.refresh().await.unwrap();
    fixture.cluster.set_fault(Endpoint::All, unavailable());
    let readiness = auth.check().await;
    assert_eq!(state_of(&readiness, "create tokenreviews"), NeedState::Degraded);
    assert!(readiness.is_ready(false));
}

#[tokio::test]
async fn the_own_token_is_verified_and_its_expiry_told() {
    let fixture = Fixture::start().await;
    let auth = fixture.authenticator(fixture.review()).build().unwrap();
    let own = fixture.cluster.token("shop", "checkout").audience("elsewhere").issue().unwrap();
    let forged = format!("{}c2lnbmF0dXJl", &own[..=own.rfind('.').unwrap()]);
    for (token, state) in [(own, NeedState::Met), (forged, NeedState::Missing)] {
        let source = StaticToken::new(Token::new(&*token).unwrap());
        let readiness = SelfCheck::new(&auth).token_source(source).run().await;
        assert_eq!(state_of(&readiness, "own token"), state, "{readiness}");
        let text = format!("{readiness} {readiness:?}");
        assert!(!text.contains(token.rsplit('.').next().unwrap()), "{text}");
    }
}

#[tokio::test]
async fn a_thousand_requests_make_one_check() {
    let fixture = Fixture::start().await;
    let app = app(&fixture.authenticator(fixture.review()).build().unwrap());
    let checks = || fixture.cluster.calls(Endpoint::SelfSubjectAccessReview);
    let requests = (0..1_000).map(|_| {
        let app = app.clone();
        tokio::spawn(async move { get(&app, "/readyz").await })
    });
    for request in requests.collect::<Vec<_>>() {
        assert_eq!(request.await.unwrap(), (StatusCode::OK, "ok".to_owned()));
    }
    assert_eq!(checks(), 1);

    // After the TTL too, and nobody waits.
    fixture.clock.advance(Duration::from_secs(6));
    fixture.cluster.set_fault(Endpoint::All, Fault::Hang);
    for _ in 0..1_000 {
        assert_eq!(get(&app, "/readyz").await.0, StatusCode::OK);
    }
    until("the check is made", async || checks() == 2).await;
}

#[tokio::test]
async fn an_outage_keeps_a_new_service_unready_and_an_old_one_ready() {
    let fixture = Fixture::start().await;
    let app = app(&fixture.authenticator(fixture.review()).build().unwrap());
    fixture.cluster.set_fault(Endpoint::All, unavailable());
    let (status, body) = get(&app, "/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body, "[?]create tokenreviews unknown: reason withheld\nreadyz check failed\n");

    let expect = async |status: StatusCode, line: &str| {
        fixture.clock.advance(Duration::from_secs(6));
        until("the check has its result", async || {
            let (seen, body) = get(&app, "/readyz?verbose").await;
            seen == status && body.contains(line)
        })
        .await;
    };
    fixture.cluster.clear_faults();
    expect(StatusCode::OK, "[+]create tokenreviews ok\n").await;
    fixture.cluster.set_fault(Endpoint::All, unavailable());
    expect(StatusCode::OK, "[?]create tokenreviews unknown").await;
    fixture.cluster.clear_faults();
    fixture.cluster.revoke(Cluster::VERIFIER);
    expect(StatusCode::SERVICE_UNAVAILABLE, "[-]create tokenreviews failed").await;
    let (_, body) = get(&app, "/readyz").await;
    assert!(!body.contains("system:") && !body.contains("checkout"), "{body}");
}
