//! Keys that come and go while a thousand requests a second arrive, by the injected clock.

use std::{sync::Arc, time::Duration};

use axum::http::StatusCode;
use tower_kube_auth::{
    Authenticator, JwksVerifier,
    error::VerifyErrorKind,
    testing::{Algorithm, Cluster, Endpoint, ManualClock, SigningKey},
};

use super::patience::{all, wait};
use crate::scripted::Service;

const RATE: usize = 1_000;
/// So many requests are under way at once.
const LANES: usize = 8;
const SECOND: Duration = Duration::from_secs(1);
/// After a fetch for an unknown key.
const COOLDOWN: Duration = Duration::from_secs(10);
/// The refresh of the keys in the background, with its jitter.
const LONGEST_PERIOD: Duration = Duration::from_secs(331);
const ISSUERS: [&str; 2] = ["https://issuer.example", "https://former-issuer.example"];

/// A cluster with two issuers, and services with one verifier: one that remembers its callers and one that does not.
struct Scene {
    clock: ManualClock,
    cluster: Cluster,
    verifier: JwksVerifier,
    services: [Service; 2],
}

/// What became of the requests of a second.
#[derive(Debug, Default, PartialEq)]
struct Tally {
    served: usize,
    refused: usize,
    undecided: usize,
}

impl Tally {
    /// Every request of so many seconds.
    fn all_served(seconds: usize) -> Self {
        Self { served: seconds * RATE, ..Self::default() }
    }

    fn add(&mut self, other: &Self) {
        self.served += other.served;
        self.refused += other.refused;
        self.undecided += other.undecided;
    }
}

impl Scene {
    async fn new() -> Self {
        crate::leaks::watch();
        let clock = ManualClock::new();
        let builder = Cluster::builder().clock(clock.clock()).signing_algorithm(Algorithm::ES256);
        let cluster = builder.issuer(ISSUERS[0]).issuer(ISSUERS[1]).start().await.unwrap();
        cluster.create_service_account("shop", "checkout");
        // A credential of our own that no rotation ends: kubelet would see to that.
        let builder =
            JwksVerifier::in_cluster(cluster.admin_client().unwrap()).clock(clock.clock());
        let verifier = builder.issuer(ISSUERS[0]).issuer(ISSUERS[1]).build().unwrap();
        let service = |ttl| {
            let builder =
                Authenticator::builder(verifier.clone()).audience("orders").clock(clock.clock());
            Service::new(&builder.cache_ttl(ttl).build().unwrap())
        };
        let services = [service(Duration::from_secs(60)), service(Duration::ZERO)];
        Self { clock, cluster, verifier, services }
    }

    /// Good tokens of the key that signs, by turns of either issuer. Signatures by ECDSA are never the same.
    fn tokens(&self, count: usize) -> Arc<[String]> {
        let claims = self.cluster.token("shop", "checkout").audience("orders").claims().unwrap();
        let issue = |number: usize| {
            let mut claims = claims.clone();
            claims["iss"] = ISSUERS[number % 2].into();
            self.cluster.mint(&claims)
        };
        (0..count).map(issue).collect()
    }

    /// A thousand requests, by turns to either service, after a second has passed.
    async fn second(&self, tokens: &Arc<[String]>) -> Tally {
        self.clock.advance(SECOND);
        let reached = self.reached();
        let lanes = (0..LANES).map(|lane| {
            let (services, tokens) = (self.services.clone(), tokens.clone());
            tokio::spawn(async move {
                let mut tally = Tally::default();
                // Two with each token, so that the first service has something to remember.
                for number in 0..RATE / LANES {
                    let token = &tokens[(lane * RATE / LANES + number) / 4 % tokens.len()];
                    match services[number % 2].get(token).await.status {
                        StatusCode::OK => tally.served += 1,
                        StatusCode::UNAUTHORIZED => tally.refused += 1,
                        StatusCode::SERVICE_UNAVAILABLE => tally.undecided += 1,
                        other => panic!("{other}"),
                    }
                }
                tally
            })
        });
        let mut sum = Tally::default();
        for tally in all(lanes.collect()).await {
            sum.add(&tally);
        }
        assert_eq!(self.reached() - reached, sum.served, "the handler was reached");
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
        self.services.iter().map(Service::reached).sum()
    }

    /// Both services' answers to one token.
    async fn statuses(&self, token: &str) -> [u16; 2] {
        [
            self.services[0].get(token).await.status.as_u16(),
            self.services[1].get(token).await.status.as_u16(),
        ]
    }

    /// Lets the time of the next refresh come, and returns when it has begun.
    async fn background_refresh(&self) {
        let calls = self.cluster.calls(Endpoint::Jwks);
        self.clock.advance(LONGEST_PERIOD);
        self.cluster.wait_for_calls(Endpoint::Jwks, calls + 1).await;
    }
}

fn both(one: &Arc<[String]>, other: &Arc<[String]>) -> Arc<[String]> {
    one.iter().zip(other.iter()).flat_map(|(one, other)| [one.clone(), other.clone()]).collect()
}

/// A new key is published, and signs after everybody had the time to fetch it; then the old one is withdrawn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_as_kubernetes_does_it_refuses_no_good_token_and_delays_none() {
    let scene = Scene::new().await;
    let old = scene.tokens(200);
    assert_eq!(scene.statuses(&old[0]).await, [200, 200]);
    assert_eq!(scene.seconds(2, &old).await, Tally::all_served(2), "before");

    scene.cluster.add_key(Algorithm::ES256).unwrap();
    assert_eq!(scene.seconds(2, &old).await, Tally::all_served(2), "published");
    let (during, ()) = tokio::join!(scene.second(&old), scene.background_refresh());
    assert_eq!(during, Tally::all_served(1), "while it is fetched");
    // Has ended by then, or is waited for.
    scene.verifier.refresh().await.unwrap();

    scene.cluster.sign_with_newest();
    let new = scene.tokens(200);
    assert_eq!(
        scene.seconds(2, &both(&old, &new)).await,
        Tally::all_served(2),
        "the new key signs"
    );

    scene.cluster.remove_old_keys();
    assert_eq!(scene.seconds(2, &new).await, Tally::all_served(2), "the old key is removed");
    scene.background_refresh().await;
    // The service that remembers nobody tells when the refresh is done.
    while scene.services[1].get(&old[0]).await.status == StatusCode::OK {
        tokio::task::yield_now().await;
    }
    for _ in 0..2 {
        let reached = scene.reached();
        let tally = scene.second(&old).await;
        assert_eq!((tally.served, scene.reached()), (0, reached), "a removed key's token");
        assert_eq!(scene.second(&new).await, Tally::all_served(1), "however many of them come");
    }
    scene.clock.advance(COOLDOWN);
    let answer = scene.services[1].get(&old[1]).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.challenge().unwrap().contains("invalid_token"));
}

/// What Kubernetes' documentation warns of: the key signs at the moment that it is published.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_in_one_go_refuses_no_good_token_and_delays_it_for_a_cooldown_at_most() {
    let scene = Scene::new().await;
    let old = scene.tokens(200);
    assert_eq!(scene.statuses(&old[0]).await, [200, 200]);
    for rotation in 1..=2 {
        scene.cluster.rotate().unwrap();
        let new = scene.tokens(200);
        // In the second that ends the cooldown the keys are fetched.
        let latest = COOLDOWN.as_secs() + 1;
        let mut second = 0;
        loop {
            let tally = scene.second(&new).await;
            second += 1;
            assert_eq!(tally.refused, 0, "a good token, {second} s after rotation {rotation}");
            if tally.undecided == 0 {
                break;
            }
            assert!(second < latest, "still undecided {second} s after rotation {rotation}");
            assert_eq!(scene.statuses(&old[second as usize]).await, [200, 200], "a known key");
        }
        assert_eq!(scene.seconds(2, &both(&old, &new)).await, Tally::all_served(2));
    }
}

#[tokio::test]
async fn an_empty_key_set_accepts_nobody_is_logged_and_is_got_over() {
    let scene = Scene::new().await;
    let [first, with_known_key, ..] = &*scene.tokens(2) else { panic!() };
    scene.cluster.publish_jwks(Some(r#"{"keys":[]}"#.into()));
    for _ in 0..3 {
        for status in scene.statuses(first).await {
            assert!([401, 503].contains(&status), "{status}");
        }
        scene.clock.advance(COOLDOWN * 2);
    }
    assert!(crate::leaks::logged("the issuer's key set has no usable key"));
    assert_eq!(scene.reached(), 0);

    scene.cluster.publish_jwks(None);
    assert_eq!(scene.statuses(with_known_key).await, [200, 200]);
    assert_eq!(scene.statuses(first).await, [200, 200]);

    // And where keys were at hand, they are gone with the next refresh: the issuer says that it has none.
    scene.cluster.publish_jwks(Some(r#"{"keys":[]}"#.into()));
    scene.verifier.refresh().await.unwrap();
    assert_ne!(scene.services[1].get(first).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_keys_serve_a_thousand_requests_a_second() {
    let scene = Scene::new().await;
    let strangers: Vec<_> =
        (0..999).map(|_| SigningKey::generate(Algorithm::ES256).unwrap()).collect();
    let mut keys: Vec<_> = strangers.iter().map(SigningKey::jwk).collect();
    keys.insert(500, scene.cluster.signing_key().jwk());
    scene.cluster.publish_jwks(Some(serde_json::json!({ "keys": keys }).to_string()));
    let tokens = scene.tokens(100);
    assert_eq!(scene.statuses(&tokens[0]).await, [200, 200]);
    assert_eq!(scene.second(&tokens).await, Tally::all_served(1));
    assert_eq!(scene.cluster.calls(Endpoint::Jwks), 1);

    let claims = scene.cluster.token("shop", "checkout").audience("orders").claims().unwrap();
    let [last, unpublished] = [&strangers[998], &SigningKey::generate(Algorithm::ES256).unwrap()];
    assert_eq!(
        scene.statuses(&last.sign(&last.header(), &claims)).await,
        [200, 200],
        "the issuer's key is the issuer's"
    );
    let crossed = unpublished.sign(&last.header(), &claims);
    assert_eq!(scene.statuses(&crossed).await, [401, 401], "another key under its id");

    // Beyond a megabyte it is no key set any more: the keys at hand stay.
    keys.extend(std::iter::repeat_n(strangers[0].jwk(), 9_000));
    scene.cluster.publish_jwks(Some(serde_json::json!({ "keys": keys }).to_string()));
    assert!(scene.cluster.jwks_json().len() > 1024 * 1024);
    let limit = Duration::from_secs(5);
    let (refreshed, _) =
        wait(&scene.clock, limit, || false, scene.verifier.refresh(), async || ()).await;
    assert_eq!(refreshed.unwrap_err().kind(), VerifyErrorKind::Unavailable);
    assert_eq!(scene.second(&tokens).await, Tally::all_served(1));
}

#[tokio::test]
async fn of_two_issuers_both_are_accepted_and_a_third_is_not() {
    let scene = Scene::new().await;
    let mut claims = scene.cluster.token("shop", "checkout").audience("orders").claims().unwrap();
    for (issuer, status) in
        [(ISSUERS[0], 200), (ISSUERS[1], 200), ("https://third.example", 401), ("", 401)]
    {
        claims["iss"] = issuer.into();
        assert_eq!(scene.statuses(&scene.cluster.mint(&claims)).await, [status; 2], "{issuer:?}");
    }
    // Another cluster's key under our issuer's name.
    let elsewhere = SigningKey::generate(Algorithm::ES256).unwrap();
    claims["iss"] = ISSUERS[0].into();
    let header = scene.cluster.signing_key().header();
    assert_eq!(scene.statuses(&elsewhere.sign(&header, &claims)).await, [401, 401]);
}
