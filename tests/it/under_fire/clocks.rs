//! Clocks that are set and entries that are cached, before each verifier.

use std::time::Duration;

use axum::http::StatusCode;
use tower_kube_auth::{
    Authenticator, JwksVerifier, TokenReviewVerifier,
    testing::{Algorithm, Cluster, Endpoint, ManualClock},
};

use crate::scripted::Service;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
/// Kubernetes' own, and our default.
const LEEWAY: Duration = Duration::from_secs(60);
/// Of the cache's default, with its jitter.
const SHORTEST_TTL: Duration = Duration::from_secs(54);
const LONGEST_TTL: Duration = Duration::from_secs(66);
/// Of a refusal.
const LONGEST_REJECT_TTL: Duration = Duration::from_secs(11);

struct Scene {
    clock: ManualClock,
    cluster: Cluster,
    services: [(&'static str, Service); 2],
}

impl Scene {
    async fn new() -> Self {
        crate::leaks::watch();
        let clock = ManualClock::new();
        let builder = Cluster::builder().clock(clock.clock()).signing_algorithm(Algorithm::ES256);
        let cluster = builder.start().await.unwrap();
        cluster.create_service_account("shop", "checkout");
        // Our own credential must not be a matter of the time.
        let client = cluster.admin_client().unwrap();
        let review = TokenReviewVerifier::new(client.clone()).clock(clock.clock());
        let jwks = JwksVerifier::in_cluster(client).clock(clock.clock()).build().unwrap();
        let [review, jwks] =
            [Authenticator::builder(review), Authenticator::builder(jwks)].map(|builder| {
                Service::new(&builder.audience("orders").clock(clock.clock()).build().unwrap())
            });
        Self { clock, cluster, services: [("TokenReview", review), ("JWKS", jwks)] }
    }

    /// Good for an hour.
    fn token(&self) -> String {
        self.cluster.token("shop", "checkout").audience("orders").issue().unwrap()
    }

    fn reviews(&self) -> u64 {
        self.cluster.calls(Endpoint::TokenReview)
    }

    async fn all(&self, token: &str, status: StatusCode, when: &str) {
        for (name, service) in &self.services {
            let reached = service.reached();
            assert_eq!(service.get(token).await.status, status, "{name}: {when}");
            assert_eq!(
                service.reached() - reached,
                usize::from(status == StatusCode::OK),
                "{name}: {when}"
            );
        }
    }
}

#[tokio::test]
async fn at_the_edges_of_the_leeway() {
    let scene = Scene::new().await;
    let token = scene.token();
    // The wall clock alone is set, so that nothing is cached for long.
    for (past_expiry, status) in [(-1, 200), (0, 200), (58, 200), (62, 401), (3600, 401)] {
        let expiry = HOUR.as_secs().checked_add_signed(past_expiry).unwrap();
        scene.clock.jump_forward(Duration::from_secs(expiry));
        scene
            .all(
                &token,
                StatusCode::from_u16(status).unwrap(),
                &format!("{past_expiry} s after exp"),
            )
            .await;
        scene.clock.jump_back(Duration::from_secs(expiry));
        scene.clock.advance(Duration::from_millis(1));
    }
    for (before_issue, status) in [(58, 200), (63, 401)] {
        let token = scene.token();
        scene.clock.jump_back(Duration::from_secs(before_issue));
        scene
            .all(
                &token,
                StatusCode::from_u16(status).unwrap(),
                &format!("{before_issue} s before iat"),
            )
            .await;
        scene.clock.jump_forward(Duration::from_secs(before_issue));
    }
}

/// Within the leeway a verifier still accepts, but each time it is asked.
#[tokio::test]
async fn past_exp_nothing_comes_from_the_cache() {
    let scene = Scene::new().await;
    let token = scene.token();
    scene.clock.advance(HOUR - SECOND * 20);
    scene.all(&token, StatusCode::OK, "20 s before its end").await;
    scene.clock.advance(SECOND * 18);
    let reviews = scene.reviews();
    scene.all(&token, StatusCode::OK, "2 s before its end").await;
    assert_eq!(scene.reviews(), reviews, "from the cache, which its end has made short");
    scene.clock.advance(SECOND * 2);
    for asked in 1..=3 {
        scene.all(&token, StatusCode::OK, "at its end, within the leeway").await;
        assert_eq!(scene.reviews(), reviews + asked, "not from the cache");
    }
    scene.clock.advance(LEEWAY + SECOND);
    scene.all(&token, StatusCode::UNAUTHORIZED, "past its end and the leeway").await;
}

#[tokio::test]
async fn a_wall_clock_that_jumps_forward_by_an_hour_expires_what_is_cached() {
    let scene = Scene::new().await;
    let token = scene.token();
    scene.all(&token, StatusCode::OK, "before").await;
    scene.clock.jump_forward(HOUR + LEEWAY + SECOND);
    scene.all(&token, StatusCode::UNAUTHORIZED, "an hour later, and cached but a moment ago").await;
    scene.all(&scene.token(), StatusCode::OK, "a token of that time").await;
    scene.clock.jump_back(HOUR + LEEWAY + SECOND);
    scene.clock.advance(LONGEST_REJECT_TTL);
    scene.all(&token, StatusCode::OK, "the clock was wrong, and is right again").await;
}

/// Lifetimes in the cache are lengths of time: a clock that is set back must not make them longer.
#[tokio::test]
async fn a_wall_clock_that_jumps_back_by_an_hour_lengthens_no_entrys_life() {
    let scene = Scene::new().await;
    let token = scene.token();
    scene.all(&token, StatusCode::OK, "before").await;
    let reviews = scene.reviews();
    scene.clock.jump_back(HOUR);
    scene.clock.advance(SHORTEST_TTL - SECOND);
    scene.all(&token, StatusCode::OK, "cached").await;
    assert_eq!(scene.reviews(), reviews, "cached");
    scene.clock.advance(LONGEST_TTL - SHORTEST_TTL + SECOND);
    scene.all(&token, StatusCode::UNAUTHORIZED, "not valid for an hour to come").await;
    assert_eq!(scene.reviews(), reviews + 1, "verified again");
    scene.clock.jump_forward(HOUR);
    scene.clock.advance(LONGEST_REJECT_TTL);
    scene.all(&token, StatusCode::OK, "the clock is right again").await;
}

/// A revocation that nobody sees in the meantime is seen at once then, wherever the wall clock has been.
#[tokio::test]
async fn a_deleted_account_is_seen_within_the_ttl_though_the_clock_was_set_back() {
    let scene = Scene::new().await;
    let token = scene.token();
    let (_, review) = &scene.services[0];
    assert_eq!(review.get(&token).await.status, StatusCode::OK);
    scene.cluster.delete_service_account("shop", "checkout");
    scene.clock.jump_back(LEEWAY / 2);
    scene.clock.advance(LONGEST_TTL);
    assert_eq!(review.get(&token).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn every_entry_lives_within_the_jitter_of_its_ttl() {
    let scene = Scene::new().await;
    let (_, review) = &scene.services[0];
    let tokens: Vec<_> = (0..50).map(|_| scene.token()).collect();
    for token in &tokens {
        assert_eq!(review.get(token).await.status, StatusCode::OK);
    }
    scene.clock.advance(SHORTEST_TTL - Duration::from_millis(1));
    for token in &tokens {
        assert_eq!(review.get(token).await.status, StatusCode::OK);
    }
    assert_eq!(scene.reviews(), 50, "no entry lives for less than 54 s");
    scene.clock.advance(LONGEST_TTL - SHORTEST_TTL + Duration::from_millis(1));
    for token in &tokens {
        assert_eq!(review.get(token).await.status, StatusCode::OK);
    }
    assert_eq!(scene.reviews(), 100, "and none for more than 66 s");
}
