//! End to end on real tokens, over the embedded cluster's TLS.

use std::time::Duration;

use axum::http::{StatusCode, header};
use tower_kube_auth::{
    Authenticator, TokenReviewVerifier,
    testing::{Cluster, Endpoint, ManualClock},
};

use crate::scripted::{Service, bearer};

struct Setup {
    cluster: Cluster,
    clock: ManualClock,
    service: Service,
}

async fn set_up() -> Setup {
    crate::leaks::watch();
    let clock = ManualClock::new();
    let cluster = Cluster::builder().clock(clock.clock()).start().await.unwrap();
    cluster.create_service_account("shop", "checkout");
    let verifier = TokenReviewVerifier::new(cluster.kube_client().unwrap());
    let authenticator =
        Authenticator::builder(verifier).audience("orders").clock(clock.clock()).build().unwrap();
    let service = Service::new(&authenticator);
    Setup { cluster, clock, service }
}

impl Setup {
    fn token(&self) -> String {
        self.cluster.token("shop", "checkout").audience("orders").issue().unwrap()
    }
}

#[tokio::test]
async fn a_token_for_us_is_accepted_and_reviewed_once() {
    let setup = set_up().await;
    for _ in 0..5 {
        let answer = setup.service.get(&setup.token()).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(answer.body.starts_with("system:serviceaccount:shop:checkout"));
    }
    let token = setup.token();
    let before = setup.cluster.calls(Endpoint::TokenReview);
    for _ in 0..5 {
        setup.service.get(&token).await;
    }
    assert_eq!(setup.cluster.calls(Endpoint::TokenReview), before + 1);
}

#[tokio::test]
async fn a_token_for_another_audience_costs_no_review() {
    let setup = set_up().await;
    let token = setup.cluster.token("shop", "checkout").audience("payments").issue().unwrap();
    assert_eq!(setup.service.refused(bearer(&token)).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(setup.cluster.calls(Endpoint::TokenReview), 0);
}

#[tokio::test]
async fn a_deleted_pod_is_seen_when_the_ttl_is_over() {
    let setup = set_up().await;
    setup.cluster.create_pod("shop", "checkout-1", "checkout");
    let token = setup
        .cluster
        .token("shop", "checkout")
        .audience("orders")
        .bound_to_pod("checkout-1")
        .issue()
        .unwrap();
    assert_eq!(setup.service.get(&token).await.status, StatusCode::OK);
    setup.cluster.delete_pod("shop", "checkout-1");
    assert_eq!(setup.service.get(&token).await.status, StatusCode::OK, "still cached");
    setup.clock.advance(Duration::from_secs(67));
    assert_eq!(setup.service.refused(bearer(&token)).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_service_account_made_anew_under_the_same_name_is_another() {
    let setup = set_up().await;
    let token = setup.token();
    setup.cluster.delete_service_account("shop", "checkout");
    setup.cluster.create_service_account("shop", "checkout");
    assert_eq!(setup.service.refused(bearer(&token)).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(setup.service.get(&setup.token()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_api_server_that_is_down_is_503_and_never_401() {
    let setup = set_up().await;
    let (cached, new) = (
        setup.token(),
        setup.cluster.token("shop", "checkout").audience("orders").issue().unwrap(),
    );
    assert_eq!(setup.service.get(&cached).await.status, StatusCode::OK);
    setup.cluster.go_down().await.unwrap();
    assert_eq!(setup.service.get(&cached).await.status, StatusCode::OK);
    let answer = setup.service.refused(bearer(&new)).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.header(header::RETRY_AFTER), Some("1"));
    setup.cluster.come_up().await.unwrap();
    assert_eq!(setup.service.get(&new).await.status, StatusCode::OK);
}

#[tokio::test]
async fn without_the_right_to_review_503_and_the_log_names_the_role() {
    let setup = set_up().await;
    setup.cluster.create_service_account("shop", "orders");
    let own = setup.cluster.token("shop", "orders").issue().unwrap();
    let verifier = TokenReviewVerifier::new(setup.cluster.client_for(own).unwrap());
    let service =
        Service::new(&Authenticator::builder(verifier).audience("orders").build().unwrap());
    assert_eq!(
        service.refused(bearer(&setup.token())).await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert!(crate::leaks::logged("system:auth-delegator"));
}

#[tokio::test]
async fn an_own_token_that_is_not_accepted_is_our_trouble() {
    let setup = set_up().await;
    let verifier = TokenReviewVerifier::new(setup.cluster.client_for("not-a-token").unwrap());
    let service =
        Service::new(&Authenticator::builder(verifier).audience("orders").build().unwrap());
    assert_eq!(
        service.refused(bearer(&setup.token())).await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert!(crate::leaks::logged("this service's own credential"));
}

#[tokio::test]
async fn a_static_token_user_is_authenticated_but_not_a_service_account() {
    let setup = set_up().await;
    let verifier = TokenReviewVerifier::new(setup.cluster.kube_client().unwrap());
    let any = Authenticator::builder(verifier).dangerous_accept_any_audience().build().unwrap();
    // Of JWT shape, so that it gets as far as the API server.
    setup.cluster.add_static_token(
        "e30.e30.eA",
        "system:serviceaccount:shop:checkout",
        &["system:masters"],
    );
    assert_eq!(
        Service::new(&any).refused(bearer("e30.e30.eA")).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(setup.cluster.calls(Endpoint::TokenReview), 1);
}

/// An API server that has lost its store puts its trouble where it puts a refusal.
#[tokio::test]
async fn an_account_that_the_api_server_cannot_look_up_503_and_nothing_is_remembered() {
    let setup = set_up().await;
    let known = setup.token();
    setup.cluster.lose_store();
    setup.cluster.create_service_account("shop", "newcomer");
    let newcomer = setup.cluster.token("shop", "newcomer").audience("orders").issue().unwrap();
    let answer = setup.service.refused(bearer(&newcomer)).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((answer.header(header::RETRY_AFTER), answer.challenge()), (Some("1"), None));

    assert_eq!(setup.service.get(&known).await.status, StatusCode::OK);
    let forged = format!("{}AAAA", &known[..known.len() - 4]);
    let answer = setup.service.refused(bearer(&forged)).await;
    assert_eq!(
        answer.status,
        StatusCode::UNAUTHORIZED,
        "a bad signature is known to be bad without any store"
    );
    assert!(answer.challenge().unwrap().contains("error=\"invalid_token\""));

    setup.cluster.regain_store();
    assert_eq!(setup.service.get(&newcomer).await.status, StatusCode::OK);
}
