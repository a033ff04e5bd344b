//! TokenReview and JWKS together, on real tokens.

use std::{sync::Arc, time::Duration};

use axum::http::{StatusCode, header};
use tokio::task::JoinSet;
use tower_kube_auth::{
    Authenticator, BearerToken, JwksVerifier, ServiceAccountIdentity, TokenReviewVerifier,
    Verifier,
    audience::Audiences,
    authenticator::AuthenticatorBuilder,
    error::VerifyErrorKind,
    testing::{Algorithm, Cluster, Endpoint, Fault, ManualClock, SigningKey},
    verdict::{RejectReason, Verdict},
};

use crate::scripted::{Answer, Service, bearer};

const SECOND: Duration = Duration::from_secs(1);
const COOLDOWN: Duration = Duration::from_secs(10);
const DOWN: Fault = Fault::Status { code: 503, retry_after: None };

struct Setup {
    cluster: Cluster,
    clock: ManualClock,
    stranger: SigningKey,
    review: TokenReviewVerifier,
    jwks: JwksVerifier,
}

async fn set_up() -> Setup {
    crate::leaks::watch();
    let clock = ManualClock::new();
    let builder = Cluster::builder().clock(clock.clock()).signing_algorithm(Algorithm::ES256);
    let cluster = builder.start().await.unwrap();
    cluster.create_service_account("shop", "checkout");
    let client = cluster.kube_client().unwrap();
    // Less than the first pause between two attempts, so that there is one attempt; and the clock stands still.
    let limit = Duration::from_millis(400);
    let review = TokenReviewVerifier::new(client.clone()).timeout(limit).clock(clock.clock());
    let jwks =
        JwksVerifier::in_cluster(client).fetch_timeout(limit).clock(clock.clock()).build().unwrap();
    Setup {
        cluster,
        clock,
        stranger: SigningKey::generate(Algorithm::ES256).unwrap(),
        review,
        jwks,
    }
}

impl Setup {
    fn builder(&self, verifier: impl Verifier) -> AuthenticatorBuilder {
        Authenticator::builder(verifier).audience("orders").clock(self.clock.clock())
    }

    fn screened(&self) -> Service {
        let verifier = self.review.clone().screened_by(self.jwks.clone()).clock(self.clock.clock());
        Service::new(&self.builder(verifier).build().unwrap())
    }

    fn with_fallback(&self) -> Authenticator {
        let verifier =
            self.review.clone().or_when_unavailable(self.jwks.clone()).clock(self.clock.clock());
        self.builder(verifier).build().unwrap()
    }

    /// Another one each time.
    fn token(&self) -> String {
        self.cluster.token("shop", "checkout").audience("orders").issue().unwrap()
    }

    /// Right in everything but the signature.
    fn forged(&self) -> String {
        self.signed_by_a_stranger_as(self.cluster.signing_key().kid())
    }

    fn signed_by_a_stranger_as(&self, key_id: &str) -> String {
        let header = serde_json::json!({ "alg": "ES256", "kid": key_id });
        self.stranger.sign(
            &header,
            &self.cluster.token("shop", "checkout").audience("orders").claims().unwrap(),
        )
    }

    fn reviews(&self) -> u64 {
        self.cluster.calls(Endpoint::TokenReview)
    }
}

fn is_invalid_token(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(
        answer.challenge().unwrap().contains("error=\"invalid_token\""),
        "{:?}",
        answer.challenge()
    );
}

fn is_our_trouble(answer: &Answer) {
    assert_eq!((answer.status, answer.challenge()), (StatusCode::SERVICE_UNAVAILABLE, None));
    assert!(answer.header(header::RETRY_AFTER).is_some());
}

async fn identity(authenticator: &Authenticator, token: &str) -> ServiceAccountIdentity {
    match authenticator.authenticate(BearerToken::parse(token).unwrap()).await {
        Ok(Verdict::Accept(acceptance)) => acceptance.identity().clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_thousand_forged_tokens_reach_the_screen_and_no_further() {
    let setup = set_up().await;
    let service = setup.screened();
    for _ in 0..1000 {
        is_invalid_token(&service.refused(bearer(&setup.forged())).await);
    }
    assert_eq!(setup.reviews(), 0);
    assert_eq!(setup.cluster.calls(Endpoint::Jwks), 1);
    assert_eq!(service.get(&setup.token()).await.status, StatusCode::OK);
    assert_eq!((setup.reviews(), service.reached()), (1, 1));
}

#[tokio::test]
async fn a_deletion_is_seen_behind_a_screen() {
    let setup = set_up().await;
    let service = setup.screened();
    let token = setup.token();
    setup.cluster.delete_service_account("shop", "checkout");
    is_invalid_token(&service.refused(bearer(&token)).await);
    assert_eq!(setup.reviews(), 1);
}

#[tokio::test]
async fn a_screen_without_keys_leaves_it_to_the_review() {
    let setup = set_up().await;
    let service = setup.screened();
    setup.cluster.set_fault(Endpoint::Jwks, Fault::Status { code: 403, retry_after: None });
    assert_eq!(service.get(&setup.token()).await.status, StatusCode::OK);
    is_invalid_token(&service.refused(bearer(&setup.forged())).await);
    assert_eq!(setup.reviews(), 2);
    setup.cluster.clear_faults();
    setup.clock.advance(SECOND);
    is_invalid_token(&service.refused(bearer(&setup.forged())).await);
    assert_eq!(setup.reviews(), 2, "the keys are loaded as soon as they can be had");
}

#[tokio::test]
async fn a_key_that_is_hidden_from_discovery_is_refused_by_the_screen_without_a_review() {
    let setup = set_up().await;
    let service = setup.screened();
    let hidden = setup.cluster.rotate().unwrap();
    setup.cluster.hide_from_discovery(&hidden);
    setup.jwks.refresh().await.unwrap();
    for _ in 0..20 {
        is_invalid_token(&service.refused(bearer(&setup.token())).await);
    }
    assert_eq!((setup.reviews(), setup.cluster.calls(Endpoint::Jwks)), (0, 2));
}

#[tokio::test]
async fn an_unknown_key_within_the_cooldown_is_left_to_the_review() {
    let setup = set_up().await;
    let service = setup.screened();
    setup.jwks.refresh().await.unwrap();
    is_invalid_token(&service.refused(bearer(&setup.signed_by_a_stranger_as("made-up"))).await);
    assert_eq!(setup.reviews(), 0);
    setup.cluster.rotate().unwrap();
    assert_eq!(
        service.get(&setup.token()).await.status,
        StatusCode::OK,
        "a new key is good at once"
    );
    is_invalid_token(&service.refused(bearer(&setup.signed_by_a_stranger_as("made-up-too"))).await);
    assert_eq!((setup.reviews(), setup.cluster.calls(Endpoint::Jwks)), (2, 2));
}

#[tokio::test]
async fn ten_thousand_made_up_key_ids_cost_one_fetch_per_cooldown_and_64_reviews() {
    let setup = Arc::new(set_up().await);
    setup.jwks.refresh().await.unwrap();
    let verifier = setup.review.clone().screened_by(setup.jwks.clone()).clock(setup.clock.clock());
    let service = Service::new(&setup.builder(verifier).max_in_flight(8).build().unwrap());
    for round in 0..2 {
        let reviews_before = setup.reviews();
        let mut answers = JoinSet::new();
        for number in 0..5000 {
            let (service, token) =
                (service.clone(), setup.signed_by_a_stranger_as(&format!("{round}-{number}")));
            answers.spawn(async move { service.refused(bearer(&token)).await });
        }
        while let Some(answer) = answers.join_next().await {
            let answer = answer.unwrap();
            if answer.status == StatusCode::UNAUTHORIZED {
                is_invalid_token(&answer);
            } else {
                is_our_trouble(&answer);
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
async fn made_up_key_ids_one_for_each_token_are_reviewed_64_times_in_ten_seconds_and_known_keys_are_served_meanwhile()
 {
    let setup = set_up().await;
    let service = setup.screened();
    setup.jwks.refresh().await.unwrap();
    let reviews_of = async |round: u64| {
        let before = setup.reviews();
        for number in 0..200 {
            let token = setup.signed_by_a_stranger_as(&format!("{round}-{number}"));
            let answer = service.refused(bearer(&token)).await;
            // The first one causes a fetch, which says that its key is unknown.
            if number <= 64 { is_invalid_token(&answer) } else { is_our_trouble(&answer) }
        }
        setup.reviews() - before
    };
    let mut served = 0;
    for round in 0..3 {
        assert_eq!(reviews_of(round).await, 64);
        let before = setup.reviews();
        for _ in 0..10 {
            assert_eq!(service.get(&setup.token()).await.status, StatusCode::OK);
            is_invalid_token(&service.refused(bearer(&setup.forged())).await);
            served += 1;
        }
        assert_eq!((setup.reviews() - before, service.reached()), (10, served));
        setup.clock.advance(COOLDOWN);
    }
    setup.cluster.rotate().unwrap();
    assert_eq!(
        service.get(&setup.token()).await.status,
        StatusCode::OK,
        "a new key's tokens are good again"
    );
}

#[tokio::test]
async fn in_an_outage_tokens_are_accepted_and_marked_and_afterwards_not_marked_without_a_restart() {
    let setup = set_up().await;
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
            "the pause goes on"
        );
        setup.clock.advance(SECOND);
        let reviews = setup.reviews();
        for _ in 0..3 {
            assert!(!identity(&authenticator, &setup.token()).await.is_from_fallback());
        }
        assert_eq!(setup.reviews(), reviews + 3);
    }
}

#[tokio::test]
async fn a_missing_right_is_503_and_never_the_fallbacks_business() {
    let setup = set_up().await;
    let service = Service::new(&setup.with_fallback());
    setup.jwks.refresh().await.unwrap();
    for code in [403, 401] {
        setup.cluster.set_fault(Endpoint::TokenReview, Fault::Status { code, retry_after: None });
        for _ in 0..3 {
            is_our_trouble(&service.refused(bearer(&setup.token())).await);
        }
    }
    assert_eq!((setup.reviews(), service.reached()), (6, 0));
}

#[tokio::test]
async fn an_account_that_the_api_server_cannot_look_up_is_503_and_no_outage_for_the_others() {
    let setup = set_up().await;
    let authenticator = setup.with_fallback();
    let service = Service::new(&authenticator);
    setup.jwks.refresh().await.unwrap();
    let known = [setup.token(), setup.token(), setup.token()];
    setup.cluster.lose_store();
    setup.cluster.create_service_account("shop", "newcomer");
    for token in known {
        let newcomer = setup.cluster.token("shop", "newcomer").audience("orders").issue().unwrap();
        is_our_trouble(&service.refused(bearer(&newcomer)).await);
        assert!(!identity(&authenticator, &token).await.is_from_fallback());
    }
    assert_eq!((setup.reviews(), service.reached()), (6, 0));
}

#[tokio::test]
async fn in_an_outage_junk_is_refused_and_an_unknown_key_is_undecided() {
    let setup = set_up().await;
    let service = Service::new(&setup.with_fallback());
    setup.jwks.refresh().await.unwrap();
    setup.cluster.set_fault(Endpoint::TokenReview, DOWN);
    for round in 0..2 {
        assert_eq!(service.get(&setup.token()).await.status, StatusCode::OK);
        is_invalid_token(&service.refused(bearer(&setup.forged())).await);
        is_our_trouble(&service.refused(bearer(&setup.signed_by_a_stranger_as("made-up"))).await);
        setup.clock.advance(COOLDOWN);
        assert_eq!(service.reached(), round + 1);
    }
    setup.cluster.go_down().await.unwrap();
    is_our_trouble(&service.refused(bearer(&setup.signed_by_a_stranger_as("made-up"))).await);
    is_invalid_token(&service.refused(bearer(&setup.forged())).await);
    assert_eq!(service.get(&setup.token()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_deletion_that_the_fallback_missed_is_seen_after_the_outage() {
    let setup = set_up().await;
    let authenticator = setup.with_fallback();
    setup.jwks.refresh().await.unwrap();
    let [first, second] = [setup.token(), setup.token()];
    setup.cluster.delete_service_account("shop", "checkout");
    setup.cluster.set_fault(Endpoint::TokenReview, DOWN);
    assert!(identity(&authenticator, &first).await.is_from_fallback());
    setup.cluster.clear_faults();
    setup.clock.advance(SECOND);
    is_invalid_token(&Service::new(&authenticator).refused(bearer(&second)).await);
}

#[tokio::test]
async fn the_nest_computes_what_it_verifies() {
    let setup = set_up().await;
    let nest = setup
        .review
        .clone()
        .screened_by(setup.jwks.clone())
        .or_when_unavailable(setup.jwks.clone());
    let nest = nest.clock(setup.clock.clock());
    let audiences = Audiences::new(["orders"]).unwrap();
    let now = |token: &str| nest.verify_now(BearerToken::parse(token).unwrap(), &audiences);
    let verify = async |token: &str| {
        nest.verify(BearerToken::parse(token).unwrap(), &audiences)
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
    assert_eq!(now(&good), verify(&good).await.ok(), "in the pause");
    assert_eq!((now(&forged), verify(&forged).await), (Some(forgery.clone()), Ok(forgery.clone())));
    assert_eq!(setup.reviews(), 2);
    setup.jwks.refresh().await.unwrap();
    let hidden = setup.signed_by_a_stranger_as("hidden");
    for _ in 0..2 {
        assert_eq!(now(&hidden), None);
        assert_eq!(
            verify(&hidden).await,
            Ok(Verdict::Reject(RejectReason::UnknownKey)),
            "the screen refuses it as ever"
        );
    }

    setup.clock.advance(SECOND);
    assert_eq!((now(&good), now(&forged)), (None, Some(forgery.clone())));
    assert_eq!((verify(&forged).await, setup.reviews()), (Ok(forgery), 2));
    assert_eq!(now(&good), None, "junk has neither probed nor ended the outage");
    assert!(is_marked(verify(&good).await.ok()));
    assert_eq!(setup.reviews(), 3);

    setup.cluster.set_fault(Endpoint::TokenReview, Fault::Status { code: 403, retry_after: None });
    setup.clock.advance(SECOND);
    assert_eq!(verify(&good).await, Err(VerifyErrorKind::Forbidden));
    assert_eq!(now(&good), None);
    setup.cluster.clear_faults();
    assert!(!is_marked(verify(&good).await.ok()));
}
