//! Key rotations at a thousand requests a second, by the injected clock.

use std::{sync::Arc, time::Duration};

use axum::http::StatusCode;
use tower_kube_auth::{
    JwksVerifier,
    error::VerifyErrorKind,
    testing::{Algorithm, Endpoint, SigningKey},
};

use crate::support::{Fixture, Service, drive, join_all, token_leaks, until};

/// Requests a second.
const RATE: usize = 1_000;
/// Concurrent requests.
const LANES: usize = 8;
const SECOND: Duration = Duration::from_secs(1);
/// The pause after a fetch for an unknown key.
const COOLDOWN: Duration = Duration::from_secs(10);
/// The upper bound of the background refresh interval with its jitter.
const LONGEST_PERIOD: Duration = Duration::from_secs(331);
const ISSUERS: [&str; 2] = ["https://issuer.example", "https://former-issuer.example"];

/// A cluster with two issuers, and services that share a verifier: one with a cache, one without.
struct RotatingCluster {
    fixture: Fixture,
    verifier: JwksVerifier,
    cached: Service,
    uncached: Service,
}

impl std::ops::Deref for RotatingCluster {
    type Target = Fixture;

    fn deref(&self) -> &Fixture {
        &self.fixture
    }
}

/// The outcomes of requests.
#[derive(Debug, Default, PartialEq)]
struct Tally {
    served: usize,
    rejected: usize,
    undecided: usize,
}

impl Tally {
    /// Returns the tally of `seconds` in which every request is served.
    fn all_served(seconds: usize) -> Self {
        Self { served: seconds * RATE, ..Self::default() }
    }

    fn add(&mut self, other: &Self) {
        self.served += other.served;
        self.rejected += other.rejected;
        self.undecided += other.undecided;
    }
}

impl RotatingCluster {
    async fn start() -> Self {
        let fixture =
            Fixture::start_with(|builder| builder.issuer(ISSUERS[0]).issuer(ISSUERS[1])).await;
        // A static token, because in a Pod kubelet replaces the service's own token after a
        // rotation.
        let client = fixture.cluster.admin_client().unwrap();
        let builder = JwksVerifier::in_cluster(client).clock(fixture.clock.clock());
        let verifier = builder.issuer(ISSUERS[0]).issuer(ISSUERS[1]).build().unwrap();
        let service = |ttl| {
            let builder = fixture.authenticator(verifier.clone());
            Service::new(&builder.cache_ttl(ttl).build().unwrap())
        };
        let (cached, uncached) = (service(Duration::from_secs(60)), service(Duration::ZERO));
        Self { fixture, verifier, cached, uncached }
    }

    /// Returns distinct valid tokens of the current key, from each issuer in turn.
    fn tokens(&self, count: usize) -> Arc<[String]> {
        let claims = self.cluster.token("shop", "checkout").audience("orders").claims().unwrap();
        let issue = |number: usize| {
            let mut claims = claims.clone();
            claims["iss"] = ISSUERS[number % 2].into();
            self.cluster.mint(&claims)
        };
        (0..count).map(issue).collect()
    }

    /// Advances by a second and sends a thousand requests, to each service in turn.
    async fn second(&self, tokens: &Arc<[String]>) -> Tally {
        self.clock.advance(SECOND);
        let reached = self.reached();
        let lanes = (0..LANES).map(|lane| {
            let services = [self.cached.clone(), self.uncached.clone()];
            let tokens = tokens.clone();
            tokio::spawn(async move {
                let mut tally = Tally::default();
                // Repeats each token, so that the cache is hit.
                for number in 0..RATE / LANES {
                    let token = &tokens[(lane * RATE / LANES + number) / 4 % tokens.len()];
                    match services[number % 2].get(token).await.status {
                        StatusCode::OK => tally.served += 1,
                        StatusCode::UNAUTHORIZED => tally.rejected += 1,
                        StatusCode::SERVICE_UNAVAILABLE => tally.undecided += 1,
                        other => panic!("{other}"),
                    }
                }
                tally
            })
        });
        let mut sum = Tally::default();
        for tally in join_all(lanes.collect()).await {
            sum.add(&tally);
        }
        assert_eq!(self.reached() - reached, sum.served, "requests that the handlers received");
        sum
    }

    async fn seconds(&self, count: usize, tokens: &Arc<[String]>) -> Tally {
        let mut sum = Tally::default();
        for _ in 0..count {
            sum.add(&self.second(tokens).await);
        }
        sum
    }

    fn reached(&self) -> usize {
        self.cached.reached() + self.uncached.reached()
    }

    /// Returns the answers with and without a cache.
    async fn statuses(&self, token: &str) -> [u16; 2] {
        [
            self.cached.get(token).await.status.as_u16(),
            self.uncached.get(token).await.status.as_u16(),
        ]
    }

    /// Advances to the next background refresh and returns when it has begun.
    async fn background_refresh(&self) {
        let calls = self.cluster.calls(Endpoint::Jwks);
        self.clock.advance(LONGEST_PERIOD);
        self.cluster.wait_for_calls(Endpoint::Jwks, calls + 1).await;
    }
}

fn both(one: &Arc<[String]>, other: &Arc<[String]>) -> Arc<[String]> {
    one.iter().zip(other.iter()).flat_map(|(one, other)| [one.clone(), other.clone()]).collect()
}

/// A new key is published, signs once every service has had time to fetch it, and then the old key
/// is removed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gradual_rotation_rejects_and_delays_no_valid_token() {
    let setup = RotatingCluster::start().await;
    let old = setup.tokens(200);
    assert_eq!(setup.statuses(&old[0]).await, [200, 200]);
    assert_eq!(setup.seconds(2, &old).await, Tally::all_served(2), "before");

    setup.cluster.add_key(Algorithm::ES256).unwrap();
    assert_eq!(setup.seconds(2, &old).await, Tally::all_served(2), "published");
    let (during, ()) = tokio::join!(setup.second(&old), setup.background_refresh());
    assert_eq!(during, Tally::all_served(1), "while it is fetched");
    // Joins the background refresh if it is still running.
    setup.verifier.refresh().await.unwrap();

    setup.cluster.sign_with_newest();
    let new = setup.tokens(200);
    assert_eq!(
        setup.seconds(2, &both(&old, &new)).await,
        Tally::all_served(2),
        "the new key signs"
    );

    setup.cluster.remove_old_keys();
    assert_eq!(setup.seconds(2, &new).await, Tally::all_served(2), "the old key is removed");
    setup.background_refresh().await;
    until("the refresh has dropped the old key", async || {
        setup.uncached.get(&old[0]).await.status != StatusCode::OK
    })
    .await;
    for _ in 0..2 {
        let reached = setup.reached();
        let tally = setup.second(&old).await;
        assert_eq!((tally.served, setup.reached()), (0, reached), "a removed key's token");
        assert_eq!(
            setup.second(&new).await,
            Tally::all_served(1),
            "beside tokens of the removed key"
        );
    }
    setup.clock.advance(COOLDOWN);
    let answer = setup.uncached.get(&old[1]).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.challenge().unwrap().contains("invalid_token"));
}

/// Kubernetes' documentation warns against this: the new key signs as soon as it is published.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abrupt_rotation_delays_valid_tokens_by_one_cooldown_at_most() {
    let setup = RotatingCluster::start().await;
    let old = setup.tokens(200);
    assert_eq!(setup.statuses(&old[0]).await, [200, 200]);
    for rotation in 1..=2 {
        setup.cluster.rotate().unwrap();
        let new = setup.tokens(200);
        // The keys are fetched in the second in which the cooldown ends.
        let latest = COOLDOWN.as_secs() + 1;
        let mut second = 0;
        loop {
            let tally = setup.second(&new).await;
            second += 1;
            assert_eq!(tally.rejected, 0, "a valid token, {second} s after rotation {rotation}");
            if tally.undecided == 0 {
                break;
            }
            assert!(second < latest, "still undecided {second} s after rotation {rotation}");
            assert_eq!(setup.statuses(&old[second as usize]).await, [200, 200], "a known key");
        }
        assert_eq!(setup.seconds(2, &both(&old, &new)).await, Tally::all_served(2));
    }
}

#[tokio::test]
async fn an_empty_key_set_accepts_nobody_and_is_recovered_from() {
    let setup = RotatingCluster::start().await;
    let [first, with_known_key, ..] = &*setup.tokens(2) else { panic!() };
    setup.cluster.publish_jwks(Some(r#"{"keys":[]}"#.into()));
    for _ in 0..3 {
        for status in setup.statuses(first).await {
            assert!([401, 503].contains(&status), "{status}");
        }
        setup.clock.advance(COOLDOWN * 2);
    }
    assert!(token_leaks::logged("the issuer's key set is empty"));
    assert_eq!(setup.reached(), 0);

    setup.cluster.publish_jwks(None);
    assert_eq!(setup.statuses(with_known_key).await, [200, 200]);
    assert_eq!(setup.statuses(first).await, [200, 200]);

    // An empty set also replaces loaded keys: the issuer states that it has none.
    setup.cluster.publish_jwks(Some(r#"{"keys":[]}"#.into()));
    setup.verifier.refresh().await.unwrap();
    assert_ne!(setup.uncached.get(first).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_keys_serve_a_thousand_requests_a_second() {
    let setup = RotatingCluster::start().await;
    let strangers: Vec<_> =
        (0..999).map(|_| SigningKey::generate(Algorithm::ES256).unwrap()).collect();
    let mut keys: Vec<_> = strangers.iter().map(SigningKey::jwk).collect();
    keys.insert(500, setup.cluster.signing_key().jwk());
    setup.cluster.publish_jwks(Some(serde_json::json!({ "keys": keys }).to_string()));
    let tokens = setup.tokens(100);
    assert_eq!(setup.statuses(&tokens[0]).await, [200, 200]);
    assert_eq!(setup.second(&tokens).await, Tally::all_served(1));
    assert_eq!(setup.cluster.calls(Endpoint::Jwks), 1);

    let claims = setup.cluster.token("shop", "checkout").audience("orders").claims().unwrap();
    let [last, unpublished] = [&strangers[998], &SigningKey::generate(Algorithm::ES256).unwrap()];
    assert_eq!(
        setup.statuses(&last.sign(&last.header(), &claims)).await,
        [200, 200],
        "every published key is accepted"
    );
    let crossed = unpublished.sign(&last.header(), &claims);
    assert_eq!(setup.statuses(&crossed).await, [401, 401], "another key under its id");

    // A key set over 1 MiB is an invalid response: the loaded keys stay.
    keys.extend(std::iter::repeat_n(strangers[0].jwk(), 9_000));
    setup.cluster.publish_jwks(Some(serde_json::json!({ "keys": keys }).to_string()));
    assert!(setup.cluster.jwks_json().len() > 1024 * 1024);
    let limit = Duration::from_secs(5);
    let (refreshed, _) =
        drive(&setup.clock, limit, || false, setup.verifier.refresh(), async || ()).await;
    assert_eq!(refreshed.unwrap_err().kind(), VerifyErrorKind::Unavailable);
    assert_eq!(setup.second(&tokens).await, Tally::all_served(1));
}

#[tokio::test]
async fn both_configured_issuers_are_accepted_and_a_third_is_not() {
    let setup = RotatingCluster::start().await;
    let mut claims = setup.cluster.token("shop", "checkout").audience("orders").claims().unwrap();
    for (issuer, status) in
        [(ISSUERS[0], 200), (ISSUERS[1], 200), ("https://third.example", 401), ("", 401)]
    {
        claims["iss"] = issuer.into();
        assert_eq!(setup.statuses(&setup.cluster.mint(&claims)).await, [status; 2], "{issuer:?}");
    }
    // Another cluster's key under this issuer's name.
    let elsewhere = SigningKey::generate(Algorithm::ES256).unwrap();
    claims["iss"] = ISSUERS[0].into();
    let header = setup.cluster.signing_key().header();
    assert_eq!(setup.statuses(&elsewhere.sign(&header, &claims)).await, [401, 401]);
}
