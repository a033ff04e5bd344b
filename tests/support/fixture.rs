//! An embedded cluster on a manual clock, clients for it, and services that authenticate with it.

use std::ops::Deref;

use serde_json::Value;
use tower_kube_auth::{
    Authenticator, JwksVerifier, TokenReviewVerifier, Verifier,
    authenticator::AuthenticatorBuilder,
    testing::{Algorithm, Cluster, ClusterBuilder, Endpoint, ManualClock},
    verifier::jwks::JwksBuilder,
};

use super::Service;

pub struct Fixture {
    pub cluster: Cluster,
    pub clock: ManualClock,
}

impl Fixture {
    /// Starts a cluster with an ES256 key and the ServiceAccount `shop/checkout`.
    pub async fn start() -> Self {
        Self::start_with(|builder| builder).await
    }

    pub async fn start_with(configure: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> Self {
        super::token_leaks::watch();
        let clock = ManualClock::new();
        let builder = Cluster::builder().clock(clock.clock()).signing_algorithm(Algorithm::ES256);
        let cluster = configure(builder).start().await.unwrap();
        cluster.create_service_account("shop", "checkout");
        Self { cluster, clock }
    }

    /// Returns a client with a verifier's rights and its default retries, which must not run.
    pub fn client(&self) -> kube::Client {
        self.cluster.kube_client().unwrap()
    }

    pub fn review(&self) -> TokenReviewVerifier {
        TokenReviewVerifier::new(self.client()).clock(self.clock.clock())
    }

    pub fn jwks(&self) -> JwksBuilder {
        JwksVerifier::in_cluster(self.client()).clock(self.clock.clock())
    }

    pub fn authenticator(&self, verifier: impl Verifier) -> AuthenticatorBuilder {
        Authenticator::builder(verifier).audience("orders").clock(self.clock.clock())
    }

    pub fn service(&self, verifier: impl Verifier) -> Service {
        Service::new(&self.authenticator(verifier).build().unwrap())
    }

    /// Returns the claims of a token for the audience `orders` that is valid for an hour.
    pub fn claims(&self) -> Value {
        self.cluster.token("shop", "checkout").audience("orders").claims().unwrap()
    }

    /// Returns a token with these claims, a different one each time.
    pub fn token(&self) -> String {
        self.cluster.token("shop", "checkout").audience("orders").issue().unwrap()
    }

    pub fn reviews(&self) -> u64 {
        self.cluster.calls(Endpoint::TokenReview)
    }
}

/// A cluster, and a service for each verifier.
pub struct BothVerifiers {
    fixture: Fixture,
    pub review: Service,
    pub jwks: Service,
}

impl BothVerifiers {
    pub async fn start() -> Self {
        let fixture = Fixture::start().await;
        // A static token, because the services' own credential must not expire with the clock.
        let client = fixture.cluster.admin_client().unwrap();
        let clock = || fixture.clock.clock();
        let review = TokenReviewVerifier::new(client.clone()).clock(clock());
        let jwks = JwksVerifier::in_cluster(client).clock(clock()).build().unwrap();
        let (review, jwks) = (fixture.service(review), fixture.service(jwks));
        Self { fixture, review, jwks }
    }
}

impl Deref for BothVerifiers {
    type Target = Fixture;

    fn deref(&self) -> &Fixture {
        &self.fixture
    }
}
