//! TokenReview combined with JWKS, as a screen and as a fallback, on real tokens.

use std::{ops::Deref, sync::Arc, time::Duration};

use axum::http::StatusCode;
use tokio::task::JoinSet;
use tower_kube_auth::{
    Authenticator, BearerToken, DynVerifier, JwksVerifier, ServiceAccountIdentity,
    TokenReviewVerifier, Verifier, VerifierExt,
    audience::Audiences,
    error::VerifyErrorKind,
    readiness::NeedState,
    testing::{Algorithm, Cluster, Endpoint, Fault, SigningKey},
    verdict::{RejectReason, Verdict},
};

use crate::support::{Fixture, Service, bearer, until};

const SECOND: Duration = Duration::from_secs(1);
const COOLDOWN: Duration = Duration::from_secs(10);
const DOWN: Fault = Fault::Status { code: 503, retry_after: None };

struct Combination {
    fixture: Fixture,
    stranger: SigningKey,
    review: TokenReviewVerifier,
    jwks: JwksVerifier,
}

impl Deref for Combination {
    type Target = Fixture;

    fn deref(&self) -> &Fixture {
        &self.fixture
    }
}

impl Combination {
    async fn start() -> Self {
        let fixture = Fixture::start().await;
        // Shorter than the first pause between two attempts, so there is only one attempt.
        let limit = Duration::from_millis(400);
        let review = fixture.review().timeout(limit);
        let jwks = fixture.jwks().fetch_timeout(limit).build().unwrap();
        let stranger = SigningKey::generate(Algorithm::ES256).unwrap();
        Self { fixture, stranger, review, jwks }
    }

    fn screened(&self) -> Service {
        let verifier = self.review.clone().screened_by(self.jwks.clone()).clock(self.clock.clock());
        self.service(verifier)
    }

    fn with_fallback(&self) -> Authenticator {
        let verifier =
            self.review.clone().or_when_unavailable(self.jwks.clone()).clock(self.clock.clock());
        self.authenticator(verifier).build().unwrap()
    }

    /// Returns once a probe has ended the outage.
    async fn outage_ends(&self, authenticator: &Authenticator) {
        until("a probe has ended the outage", async || {
            !identity(authenticator, &self.token()).await.is_from_fallback()
        })
        .await;
    }

    /// Returns a token that is valid except for its signature.
    fn forged(&self) -> String {
        self.signed_by_a_stranger_as(self.cluster.signing_key().kid())
    }

    fn signed_by_a_stranger_as(&self, key_id: &str) -> String {
        let header = serde_json::json!({ "alg": "ES256", "kid": key_id });
        self.stranger.sign(&header, &self.claims())
    }
}

async fn identity(authenticator: &Authenticator, token: &str) -> ServiceAccountIdentity {
    match authenticator.authenticate(BearerToken::parse(token).unwrap()).await {
        Ok(Verdict::Accept(acceptance)) => acceptance.identity().clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn forged_tokens_are_rejected_by_the_screen_without_a_review() {
    let setup = Combination::start().await;
    let service = setup.screened();
    for _ in 0..1000 {
        service.blocked(bearer(&setup.forged())).await.assert_invalid_token("");
    }
    assert_eq!(setup.reviews(), 0);
    assert_eq!(setup.cluster.calls(Endpoint::Jwks), 1);
    assert_eq!(service.get(&setup.token()).await.status, StatusCode::OK);
    assert_eq!((setup.reviews(), service.reached()), (1, 1));
}

#[tokio::test]
async fn a_deletion_is_noticed_behind_a_screen() {
    let setup = Combination::start().await;
    let service = setup.screened();
    let token = setup.token();
    setup.cluster.delete_service_account("shop", "checkout");
    service.blocked(bearer(&token)).await.assert_invalid_token("");
    assert_eq!(setup.reviews(), 1);
}

#[tokio::test]
async fn a_screen_without_keys_passes_tokens_to_the_review() {
    let setup = Combination::start().await;
    let service = setup.screened();
    setup.cluster.set_fault(Endpoint::Jwks, Fault::Status { code: 403, retry_after: None });
    assert_eq!(service.get(&setup.token()).await.status, StatusCode::OK);
    service.blocked(bearer(&setup.forged())).await.assert_invalid_token("");
    assert_eq!(setup.reviews(), 2);
    setup.cluster.clear_faults();
    setup.clock.advance(SECOND);
    service.blocked(bearer(&setup.forged())).await.assert_invalid_token("");
    assert_eq!(setup.reviews(), 2, "the keys are loaded once the API server serves them");
}

#[tokio::test]
async fn the_screen_rejects_a_key_hidden_from_discovery_without_a_review() {
    let setup = Combination::start().await;
    let service = setup.screened();
    let hidden = setup.cluster.rotate().unwrap();
    setup.cluster.hide_from_discovery(&hidden);
    setup.jwks.refresh().await.unwrap();
    for _ in 0..20 {
        service.blocked(bearer(&setup.token())).await.assert_invalid_token("");
    }
    assert_eq!((setup.reviews(), setup.cluster.calls(Endpoint::Jwks)), (0, 2));
}

#[tokio::test]
async fn an_unknown_key_within_the_cooldown_is_reviewed() {
    let setup = Combination::start().await;
    let service = setup.screened();
    setup.jwks.refresh().await.unwrap();
    service
        .blocked(bearer(&setup.signed_by_a_stranger_as("made-up")))
        .await
        .assert_invalid_token("");
    assert_eq!(setup.reviews(), 0);
    setup.cluster.rotate().unwrap();
    assert_eq!(
        service.get(&setup.token()).await.status,
        StatusCode::OK,
        "a new key is accepted at once"
    );
    service
        .blocked(bearer(&setup.signed_by_a_stranger_as("made-up-too")))
        .await
        .assert_invalid_token("");
    assert_eq!((setup.reviews(), setup.cluster.calls(Endpoint::Jwks)), (2, 2));
}

#[tokio::test]
async fn a_flood_of_unknown_key_ids_costs_one_fetch_and_64_reviews_per_cooldown() {
    let setup = Arc::new(Combination::start().await);
    setup.jwks.refresh().await.unwrap();
    let verifier = setup.review.clone().screened_by(setup.jwks.clone()).clock(setup.clock.clock());
    let service = Service::new(&setup.authenticator(verifier).max_in_flight(8).build().unwrap());
    for round in 0..2 {
        let reviews_before = setup.reviews();
        let mut answers = JoinSet::new();
        for number in 0..5000 {
            let (service, token) =
                (service.clone(), setup.signed_by_a_stranger_as(&format!("{round}-{number}")));
            answers.spawn(async move { service.blocked(bearer(&token)).await });
        }
        while let Some(answer) = answers.join_next().await {
            let answer = answer.unwrap();
            if answer.status == StatusCode::UNAUTHORIZED {
                answer.assert_invalid_token("junk");
            } else {
                answer.assert_unavailable();
            }
        }
        assert_eq!(
            setup.cluster.calls(Endpoint::Jwks),
            2 + round,
            "one load, and one fetch per round"
        );
        let reviews = setup.reviews() - reviews_before;
        assert!((1..=64).contains(&reviews), "{reviews} reviews in ten seconds");
        setup.clock.advance(COOLDOWN);
    }
    assert!(setup.cluster.max_in_flight(Endpoint::TokenReview) <= 8);
    assert_eq!(service.get(&setup.token()).await.status, StatusCode::OK);
    assert_eq!(service.reached(), 1);
}

#[tokio::test]
async fn tokens_of_known_keys_are_served_while_unknown_key_ids_exceed_their_limit() {
    let setup = Combination::start().await;
    let service = setup.screened();
    setup.jwks.refresh().await.unwrap();
    let reviews_of = async |round: u64| {
        let before = setup.reviews();
        for number in 0..200 {
            let token = setup.signed_by_a_stranger_as(&format!("{round}-{number}"));
            let answer = service.blocked(bearer(&token)).await;
            // The first token triggers a fetch that shows its key to be unknown.
            if number <= 64 {
                answer.assert_invalid_token("reviewed");
            } else {
                answer.assert_unavailable();
            }
        }
        setup.reviews() - before
    };
    let mut served = 0;
    for round in 0..3 {
        assert_eq!(reviews_of(round).await, 64);
        let before = setup.reviews();
        for _ in 0..10 {
            assert_eq!(service.get(&setup.token()).await.status, StatusCode::OK);
            service.blocked(bearer(&setup.forged())).await.assert_invalid_token("");
            served += 1;
        }
        assert_eq!((setup.reviews() - before, service.reached()), (10, served));
        setup.clock.advance(COOLDOWN);
    }
    setup.cluster.rotate().unwrap();
    assert_eq!(
        service.get(&setup.token()).await.status,
        StatusCode::OK,
        "a new key is accepted again"
    );
}

#[tokio::test]
async fn in_an_outage_and_only_then_accepted_tokens_are_marked_as_from_the_fallback() {
    let setup = Combination::start().await;
    let authenticator = setup.with_fallback();
    setup.jwks.refresh().await.unwrap();
    assert!(!identity(&authenticator, &setup.token()).await.is_from_fallback());
    for _ in 0..2 {
        setup.cluster.go_down().await.unwrap();
        for _ in 0..3 {
            let caller = identity(&authenticator, &setup.token()).await;
            assert!(caller.is_from_fallback());
            assert_eq!(serde_json::to_value(&caller).unwrap()["fromFallback"], true);
        }
        setup.cluster.come_up().await.unwrap();
        assert!(
            identity(&authenticator, &setup.token()).await.is_from_fallback(),
            "the circuit breaker is still open"
        );
        setup.clock.advance(SECOND);
        setup.outage_ends(&authenticator).await;
        let reviews = setup.reviews();
        for _ in 0..3 {
            assert!(!identity(&authenticator, &setup.token()).await.is_from_fallback());
        }
        assert_eq!(setup.reviews(), reviews + 3);
    }
}

#[tokio::test]
async fn a_missing_right_is_503_and_does_not_use_the_fallback() {
    let setup = Combination::start().await;
    let service = Service::new(&setup.with_fallback());
    setup.jwks.refresh().await.unwrap();
    for code in [403, 401] {
        setup.cluster.set_fault(Endpoint::TokenReview, Fault::Status { code, retry_after: None });
        for _ in 0..3 {
            service.blocked(bearer(&setup.token())).await.assert_unavailable();
        }
    }
    assert_eq!((setup.reviews(), service.reached()), (6, 0));
}

#[tokio::test]
async fn an_account_that_cannot_be_looked_up_is_503_and_no_outage_for_others() {
    let setup = Combination::start().await;
    let authenticator = setup.with_fallback();
    let service = Service::new(&authenticator);
    setup.jwks.refresh().await.unwrap();
    let known = [setup.token(), setup.token(), setup.token()];
    setup.cluster.start_etcd_outage();
    setup.cluster.create_service_account("shop", "newcomer");
    for token in known {
        let newcomer = setup.cluster.token("shop", "newcomer").audience("orders").issue().unwrap();
        service.blocked(bearer(&newcomer)).await.assert_unavailable();
        assert!(!identity(&authenticator, &token).await.is_from_fallback());
    }
    assert_eq!((setup.reviews(), service.reached()), (6, 0));
}

#[tokio::test]
async fn in_an_outage_forged_tokens_are_rejected_and_unknown_keys_are_503() {
    let setup = Combination::start().await;
    let service = Service::new(&setup.with_fallback());
    setup.jwks.refresh().await.unwrap();
    setup.cluster.set_fault(Endpoint::TokenReview, DOWN);
    for round in 0..2 {
        assert_eq!(service.get(&setup.token()).await.status, StatusCode::OK);
        service.blocked(bearer(&setup.forged())).await.assert_invalid_token("");
        service
            .blocked(bearer(&setup.signed_by_a_stranger_as("made-up")))
            .await
            .assert_unavailable();
        setup.clock.advance(COOLDOWN);
        assert_eq!(service.reached(), round + 1);
    }
    setup.cluster.go_down().await.unwrap();
    service.blocked(bearer(&setup.signed_by_a_stranger_as("made-up"))).await.assert_unavailable();
    service.blocked(bearer(&setup.forged())).await.assert_invalid_token("");
    assert_eq!(service.get(&setup.token()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_deletion_that_the_fallback_missed_is_noticed_after_the_outage() {
    let setup = Combination::start().await;
    let authenticator = setup.with_fallback();
    setup.jwks.refresh().await.unwrap();
    let [first, second, third] = [setup.token(), setup.token(), setup.token()];
    setup.cluster.delete_service_account("shop", "checkout");
    setup.cluster.set_fault(Endpoint::TokenReview, DOWN);
    assert!(identity(&authenticator, &first).await.is_from_fallback());
    setup.cluster.clear_faults();
    setup.clock.advance(SECOND);
    assert!(identity(&authenticator, &second).await.is_from_fallback(), "it probes");
    until("the probe has ended the outage", async || {
        authenticator.metrics().rejected > 0 || {
            let token = BearerToken::parse(&third).unwrap();
            authenticator.invalidate(token);
            matches!(authenticator.authenticate(token).await, Ok(Verdict::Reject(_)))
        }
    })
    .await;
    setup.clock.advance(COOLDOWN);
    for token in [first, second, third] {
        Service::new(&authenticator).blocked(bearer(&token)).await.assert_invalid_token("");
    }
}

#[tokio::test]
async fn verify_now_of_nested_verifiers_agrees_with_verify() {
    let setup = Combination::start().await;
    let nested = setup
        .review
        .clone()
        .screened_by(setup.jwks.clone())
        .or_when_unavailable(setup.jwks.clone());
    let nested = nested.clock(setup.clock.clock());
    let audiences = Audiences::new(["orders"]).unwrap();
    let now = |token: &str| nested.verify_now(BearerToken::parse(token).unwrap(), &audiences);
    let verify = async |token: &str| {
        nested
            .verify(BearerToken::parse(token).unwrap(), &audiences)
            .await
            .map_err(|error| error.kind())
    };
    let is_marked = |verdict: Option<Verdict>| match verdict {
        Some(Verdict::Accept(acceptance)) => acceptance.identity().is_from_fallback(),
        other => panic!("{other:?}"),
    };
    setup.jwks.refresh().await.unwrap();
    let forgery = Verdict::Reject(RejectReason::Signature);
    let (good, forged) = (setup.token(), setup.forged());

    assert_eq!((now(&good), now(&forged)), (None, Some(forgery.clone())));
    assert_eq!((verify(&forged).await, setup.reviews()), (Ok(forgery.clone()), 0));
    assert!(!is_marked(verify(&good).await.ok()));
    assert_eq!(setup.reviews(), 1);

    setup.cluster.set_fault(Endpoint::TokenReview, DOWN);
    assert!(is_marked(verify(&good).await.ok()));
    assert!(is_marked(now(&good)));
    assert_eq!(now(&good), verify(&good).await.ok(), "while the circuit breaker is open");
    assert_eq!((now(&forged), verify(&forged).await), (Some(forgery.clone()), Ok(forgery.clone())));
    assert_eq!(setup.reviews(), 2);
    setup.jwks.refresh().await.unwrap();
    let hidden = setup.signed_by_a_stranger_as("hidden");
    for _ in 0..2 {
        assert_eq!(now(&hidden), None);
        assert_eq!(
            verify(&hidden).await,
            Ok(Verdict::Reject(RejectReason::UnknownKey)),
            "the screen rejects it"
        );
    }

    setup.clock.advance(SECOND);
    assert_eq!((now(&forged), verify(&forged).await), (Some(forgery.clone()), Ok(forgery)));
    assert_eq!(setup.reviews(), 2, "forged tokens neither probe nor end the outage");

    setup.cluster.set_fault(Endpoint::TokenReview, Fault::Status { code: 403, retry_after: None });
    assert!(is_marked(now(&good)), "nobody waits for the probe");
    until("the probe has met the missing right", async || now(&good).is_none()).await;
    assert_eq!(setup.reviews(), 3);
    assert_eq!(verify(&good).await, Err(VerifyErrorKind::Forbidden));
    setup.cluster.clear_faults();
    assert!(!is_marked(verify(&good).await.ok()));
}

#[tokio::test]
async fn a_combination_knows_the_api_servers_audience_if_both_verifiers_do() {
    let fixture = Fixture::start().await;
    let unnamed = fixture.jwks().build().unwrap();
    let named = fixture.jwks().api_server_audience("https://api").build().unwrap();
    let knows = |verifier: DynVerifier| {
        Authenticator::builder(verifier).api_server_audience().build().is_ok()
    };
    assert!(knows(DynVerifier::new(fixture.review())));
    assert!(knows(DynVerifier::new(Arc::new(fixture.review()))));
    for (jwks, expected) in [(unnamed, false), (named, true)] {
        assert_eq!(knows(DynVerifier::new(fixture.review().screened_by(jwks.clone()))), expected);
        let fallback = fixture.review().or_when_unavailable(jwks.clone());
        assert_eq!(knows(DynVerifier::new(fallback)), expected);
        assert_eq!(knows(DynVerifier::new(jwks.clone().screened_by(fixture.review()))), expected);
        let chain = fixture.review().or_when_inconclusive(jwks.clone());
        assert_eq!(knows(DynVerifier::new(chain)), expected);
        let chain = jwks.or_when_inconclusive(fixture.review());
        assert_eq!(knows(DynVerifier::new(chain)), expected);
    }
}

#[tokio::test]
async fn a_review_decides_about_inconclusive_tokens_and_about_no_others() {
    let setup = Combination::start().await;
    let verifier = setup.jwks.clone().or_when_inconclusive(setup.review.clone());
    let authenticator = setup.authenticator(verifier).build().unwrap();
    let service = Service::new(&authenticator);
    setup.jwks.refresh().await.unwrap();
    assert_eq!(service.get(&setup.token()).await.status, StatusCode::OK);
    service.blocked(bearer(&setup.forged())).await.assert_invalid_token("forged");
    // The fetch that this token causes begins the cooldown.
    let made_up = setup.signed_by_a_stranger_as("made-up");
    service.blocked(bearer(&made_up)).await.assert_invalid_token("made-up");
    assert_eq!((setup.reviews(), service.reached()), (0, 1));

    setup.cluster.rotate().unwrap();
    let caller = identity(&authenticator, &setup.token()).await;
    assert!(!caller.is_from_fallback());
    let made_up = setup.signed_by_a_stranger_as("made-up-too");
    service.blocked(bearer(&made_up)).await.assert_invalid_token("reviewed");
    assert_eq!((setup.reviews(), setup.cluster.calls(Endpoint::Jwks)), (2, 2));

    setup.cluster.set_fault(Endpoint::TokenReview, DOWN);
    service.blocked(bearer(&setup.token())).await.assert_unavailable();
    setup.clock.advance(COOLDOWN);
    assert_eq!(service.get(&setup.token()).await.status, StatusCode::OK, "the key is fetched");
    assert_eq!((setup.reviews(), service.reached()), (3, 2));
}

#[tokio::test]
async fn a_chain_needs_its_first_verifier_and_can_do_without_the_other() {
    let setup = Combination::start().await;
    let states = async |verifier: DynVerifier| {
        let authenticator = setup.authenticator(verifier).build().unwrap();
        let needs = authenticator.check().await.needs;
        needs.into_iter().map(|need| need.state).collect::<Vec<_>>()
    };
    setup.cluster.revoke(Cluster::VERIFIER);
    let (review, jwks) = (setup.review.clone(), setup.jwks.clone());
    let behind = DynVerifier::new(jwks.clone().or_when_inconclusive(review.clone()));
    assert!(states(behind.clone()).await.contains(&NeedState::Degraded));
    assert!(!states(behind).await.contains(&NeedState::Missing));
    let before = DynVerifier::new(review.or_when_inconclusive(jwks));
    assert!(states(before).await.contains(&NeedState::Missing));
}
