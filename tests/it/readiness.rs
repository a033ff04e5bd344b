//! The self-check and `/readyz`.

use std::time::Duration;

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode},
};
use http_body_util::BodyExt;
use serde_json::json;
use tower::ServiceExt;
use tower_kube_auth::{
    ApiServer, Authenticator, DynVerifier, TokenReviewVerifier, VerifierExt,
    authenticator::SelfCheck,
    authorizer::{AllowList, SubjectAccessReviewAuthorizer, all_of, any_of},
    client::{StaticToken, Token, TokenError, TokenErrorKind, TokenSource},
    readiness::{NeedState, Readiness},
    server::Readyz,
    testing::{Cluster, Endpoint, Fault},
};

use crate::support::{FakeVerifier, Fixture, until};

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

#[tokio::test]
async fn each_of_the_two_rights_is_told_alone() {
    let fixture = Fixture::start().await;
    for (group, granted, missing) in [
        ("authentication.k8s.io", "tokenreviews", "create subjectaccessreviews"),
        ("authorization.k8s.io", "subjectaccessreviews", "create tokenreviews"),
    ] {
        let rule = json!({"apiGroups": [group], "resources": [granted], "verbs": ["create"]});
        fixture.cluster.revoke(Cluster::VERIFIER);
        fixture.cluster.grant(Cluster::VERIFIER, &rule);
        let auth = fixture.authenticator(fixture.review()).build().unwrap();
        let sar = SubjectAccessReviewAuthorizer::builder(fixture.client());
        let sar = sar.clock(fixture.clock.clock()).build().unwrap();
        let readiness = SelfCheck::new(&auth).authorizer(sar).run().await;
        let unmet = readiness.needs.iter().filter(|need| need.state != NeedState::Met);
        let unmet: Vec<_> = unmet.map(|need| (&*need.name, need.state)).collect();
        assert_eq!(unmet, [(missing, NeedState::Missing)]);
    }
}

#[tokio::test]
async fn keys_that_may_not_be_read_are_missing_or_degraded_behind_a_verifier() {
    let fixture = Fixture::start().await;
    fixture.cluster.revoke_issuer_discovery();
    let keys = || fixture.jwks().build().unwrap();
    let alone = fixture.authenticator(keys()).build().unwrap().check().await;
    assert_eq!(states(&alone), [("keys", NeedState::Missing)]);
    assert!(alone.to_string().contains("system:service-account-issuer-discovery"), "{alone}");
    let fallback = fixture.review().or_when_unavailable(keys());
    let fallback = fixture.authenticator(fallback).build().unwrap().check().await;
    assert_eq!(state_of(&fallback, "keys"), NeedState::Degraded);
    let screen = fixture.authenticator(fixture.review().screened_by(keys())).build().unwrap();
    assert_eq!(state_of(&screen.check().await, "keys"), NeedState::Degraded);
}

#[tokio::test]
async fn a_credential_for_another_audience_or_an_expired_one_is_told() {
    let fixture = Fixture::start().await;
    let own = fixture.cluster.token("kube-auth", "verifier");
    let mut expired = own.claims().unwrap();
    for claim in ["exp", "iat", "nbf"] {
        expired[claim] = json!(expired[claim].as_i64().unwrap() - 7_200);
    }
    let other = fixture.cluster.token("kube-auth", "verifier").audience("orders").issue().unwrap();
    for credential in [other, fixture.cluster.mint(&expired)] {
        let client = fixture.cluster.client_for(credential).unwrap();
        let verifier = TokenReviewVerifier::new(client).clock(fixture.clock.clock());
        let readiness = fixture.authenticator(verifier).build().unwrap().check().await;
        assert_eq!(states(&readiness), [("create tokenreviews", NeedState::Missing)]);
        let line = "does not accept this service's own credential (401); look at the token";
        assert!(readiness.to_string().contains(line), "{readiness}");
        assert!(!readiness.is_ready(true));
    }
}

#[tokio::test]
async fn an_own_token_for_another_audience_or_near_its_end_is_told() {
    let fixture = Fixture::start().await;
    let auth = fixture.authenticator(fixture.review()).build().unwrap();
    let check = async |token: &str, audience: Option<&str>| {
        let source = StaticToken::new(Token::new(token).unwrap());
        let check = SelfCheck::new(&auth).token_source(source);
        match audience {
            Some(audience) => check.token_audience(audience).run().await,
            None => check.run().await,
        }
    };
    let own = fixture.token();
    for (audience, state) in [
        (None, NeedState::Met),
        (Some("orders"), NeedState::Met),
        (Some("payments"), NeedState::Missing),
    ] {
        let readiness = check(&own, audience).await;
        assert_eq!(state_of(&readiness, "own token"), state, "{readiness}");
        assert!(readiness.to_string().contains("[\"orders\"]"), "{readiness}");
    }
    // Valid for an hour; a tenth of that is 6 min.
    for (advance, state) in [(3_230, NeedState::Met), (20, NeedState::Degraded)] {
        fixture.clock.advance(Duration::from_secs(advance));
        let readiness = check(&own, None).await;
        assert_eq!(state_of(&readiness, "own token"), state, "{readiness}");
        assert!(readiness.is_ready(true));
    }
    fixture.clock.advance(Duration::from_secs(600));
    let readiness = check(&own, None).await;
    assert_eq!(state_of(&readiness, "own token"), NeedState::Missing, "{readiness}");
}

#[tokio::test]
async fn an_own_token_that_an_outage_ends_is_unknown_and_other_lacks_are_missing() {
    struct Failing(TokenErrorKind);
    impl TokenSource for Failing {
        async fn token(&self) -> Result<Token, TokenError> {
            Err(TokenError::new(self.0, "on purpose"))
        }
    }
    use TokenErrorKind::*;
    let unknown = [Unavailable, Timeout, RateLimited, Aborted, Expired, InvalidResponse];
    let missing =
        [Unreadable, Malformed, Unauthenticated, Forbidden, InvalidRequest, UnknownServiceAccount];
    let auth = FakeVerifier::accepting().authenticator();
    for (kinds, state) in [(unknown, NeedState::Unknown), (missing, NeedState::Missing)] {
        for kind in kinds {
            let readiness = SelfCheck::new(&auth).token_source(Failing(kind)).run().await;
            assert_eq!(state_of(&readiness, "own token"), state, "{readiness}");
            assert_eq!(readiness.is_ready(true), state == NeedState::Unknown);
            assert!(!readiness.is_ready(false));
        }
    }
}
