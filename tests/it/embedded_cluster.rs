//! TokenReview end to end: real tokens, over the embedded cluster's TLS.

use std::{ops::Deref, time::Duration};

use axum::http::{StatusCode, header};
use tower_kube_auth::{Authenticator, TokenReviewVerifier, testing::Endpoint};

use crate::support::{Fixture, Service, bearer, token_leaks};

/// A cluster, and a service whose back-off between attempts takes real time.
struct ReviewingService {
    fixture: Fixture,
    service: Service,
}

impl Deref for ReviewingService {
    type Target = Fixture;

    fn deref(&self) -> &Fixture {
        &self.fixture
    }
}

impl ReviewingService {
    async fn start() -> Self {
        let fixture = Fixture::start().await;
        let service = fixture.service(TokenReviewVerifier::new(fixture.client()));
        Self { fixture, service }
    }
}

#[tokio::test]
async fn a_token_for_this_audience_is_accepted_and_reviewed_once() {
    let setup = ReviewingService::start().await;
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
    let setup = ReviewingService::start().await;
    let token = setup.cluster.token("shop", "checkout").audience("payments").issue().unwrap();
    assert_eq!(setup.service.blocked(bearer(&token)).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(setup.cluster.calls(Endpoint::TokenReview), 0);
}

#[tokio::test]
async fn a_deleted_pod_is_noticed_when_the_ttl_ends() {
    let setup = ReviewingService::start().await;
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
    assert_eq!(setup.service.blocked(bearer(&token)).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_recreated_service_account_is_a_different_one() {
    let setup = ReviewingService::start().await;
    let token = setup.token();
    setup.cluster.delete_service_account("shop", "checkout");
    setup.cluster.create_service_account("shop", "checkout");
    assert_eq!(setup.service.blocked(bearer(&token)).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(setup.service.get(&setup.token()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_api_server_that_is_down_is_503_and_never_401() {
    let setup = ReviewingService::start().await;
    let (cached, new) = (setup.token(), setup.token());
    assert_eq!(setup.service.get(&cached).await.status, StatusCode::OK);
    setup.cluster.go_down().await.unwrap();
    assert_eq!(setup.service.get(&cached).await.status, StatusCode::OK);
    let answer = setup.service.blocked(bearer(&new)).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.header(header::RETRY_AFTER), Some("1"));
    setup.cluster.come_up().await.unwrap();
    assert_eq!(setup.service.get(&new).await.status, StatusCode::OK);
}

#[tokio::test]
async fn without_the_right_to_review_503_and_a_log_line_with_the_role() {
    let setup = ReviewingService::start().await;
    setup.cluster.create_service_account("shop", "orders");
    let own = setup.cluster.token("shop", "orders").issue().unwrap();
    let verifier = TokenReviewVerifier::new(setup.cluster.client_for(own).unwrap());
    let service = setup.service(verifier);
    assert_eq!(
        service.blocked(bearer(&setup.token())).await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert!(token_leaks::logged("system:auth-delegator"));
}

#[tokio::test]
async fn a_rejected_credential_of_the_service_is_503() {
    let setup = ReviewingService::start().await;
    let verifier = TokenReviewVerifier::new(setup.cluster.client_for("not-a-token").unwrap());
    let service = setup.service(verifier);
    assert_eq!(
        service.blocked(bearer(&setup.token())).await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert!(token_leaks::logged("this service's own credential"));
}

#[tokio::test]
async fn a_static_token_user_is_authenticated_but_not_a_service_account() {
    let setup = ReviewingService::start().await;
    let verifier = TokenReviewVerifier::new(setup.cluster.kube_client().unwrap());
    let any = Authenticator::builder(verifier).dangerous_accept_any_audience().build().unwrap();
    // Shaped like a JWT, so that it passes the pre-check.
    setup.cluster.add_static_token(
        "e30.e30.eA",
        "system:serviceaccount:shop:checkout",
        &["system:masters"],
    );
    assert_eq!(
        Service::new(&any).blocked(bearer("e30.e30.eA")).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(setup.cluster.calls(Endpoint::TokenReview), 1);
}

/// A kube-apiserver without etcd reports the failure as a rejection with `status.error`.
#[tokio::test]
async fn an_account_that_cannot_be_looked_up_is_503_and_not_cached() {
    let setup = ReviewingService::start().await;
    let known = setup.token();
    setup.cluster.start_etcd_outage();
    setup.cluster.create_service_account("shop", "newcomer");
    let newcomer = setup.cluster.token("shop", "newcomer").audience("orders").issue().unwrap();
    let answer = setup.service.blocked(bearer(&newcomer)).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((answer.header(header::RETRY_AFTER), answer.challenge()), (Some("1"), None));

    assert_eq!(setup.service.get(&known).await.status, StatusCode::OK);
    let forged = format!("{}AAAA", &known[..known.len() - 4]);
    let answer = setup.service.blocked(bearer(&forged)).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "a bad signature is rejected without etcd");
    assert!(answer.challenge().unwrap().contains("error=\"invalid_token\""));

    setup.cluster.end_etcd_outage();
    assert_eq!(setup.service.get(&newcomer).await.status, StatusCode::OK);
}
