//! A flood of invalid tokens beside known callers. A separate binary, because `tests/it` keeps a
//! log at TRACE, which a hundred thousand requests would fill.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation fails the test")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode, header},
    routing::get,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;
use tokio::task::JoinSet;
use tower::ServiceExt;
use tower_kube_auth::{
    Authenticator, JwksVerifier, TokenReviewVerifier, Verifier, VerifierExt,
    testing::{Cluster, Endpoint, Fault, ManualClock},
};

const GOOD_CALLERS: usize = 100;
const JUNK: usize = 100_000;
/// More than the limits in flight and waiting together.
const SENDERS: usize = 500;
const MAX_IN_FLIGHT: usize = 16;
const REJECT_CAPACITY: u64 = 1_000;

struct Setup {
    cluster: Cluster,
    clock: ManualClock,
    good: Vec<String>,
}

/// Tokens that are valid except for the uid and the signature.
struct Junk {
    header: String,
    issuer: String,
    now: u64,
}

impl Setup {
    async fn new() -> Self {
        let clock = ManualClock::new();
        let cluster = Cluster::start().await.unwrap();
        let good = (0..GOOD_CALLERS).map(|caller| {
            let name = format!("caller-{caller}");
            cluster.create_service_account("shop", &name);
            cluster.token("shop", &name).audience("orders").issue().unwrap()
        });
        Self { good: good.collect(), cluster, clock }
    }

    fn review(&self) -> TokenReviewVerifier {
        TokenReviewVerifier::new(self.cluster.kube_client().unwrap()).clock(self.clock.clock())
    }

    fn jwks(&self) -> JwksVerifier {
        JwksVerifier::in_cluster(self.cluster.kube_client().unwrap())
            .clock(self.clock.clock())
            .build()
            .unwrap()
    }

    fn authenticator(&self, verifier: impl Verifier) -> Authenticator {
        // The clock stands still, so no TTL and no wait ends.
        let builder = Authenticator::builder(verifier).audience("orders").clock(self.clock.clock());
        builder.max_in_flight(MAX_IN_FLIGHT).reject_capacity(REJECT_CAPACITY).build().unwrap()
    }

    fn junk(&self) -> Junk {
        let header = URL_SAFE_NO_PAD.encode(self.cluster.signing_key().header().to_string());
        let now = self.clock.clock().wall().duration_since(UNIX_EPOCH).unwrap().as_secs();
        Junk { header, issuer: self.cluster.issuer().into(), now }
    }
}

impl Junk {
    fn token(&self, number: usize) -> String {
        let claims = json!({
            "iss": self.issuer, "aud": ["orders"], "sub": "system:serviceaccount:shop:caller-1",
            "iat": self.now, "nbf": self.now, "exp": self.now + 3600, "jti": number.to_string(),
            "kubernetes.io": { "namespace": "shop", "serviceaccount": { "name": "caller-1", "uid": "00000000-0000-4000-8000-000000000000" } },
        });
        let mut signature = [0; 256];
        fastrand::fill(&mut signature);
        let [claims, signature] =
            [URL_SAFE_NO_PAD.encode(claims.to_string()), URL_SAFE_NO_PAD.encode(signature)];
        format!("{}.{claims}.{signature}", self.header)
    }
}

async fn status(router: &Router, token: &str) -> StatusCode {
    let request = Request::get("/")
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .body(Body::empty())
        .unwrap();
    router.clone().oneshot(request).await.unwrap().status()
}

/// Sends all the junk and, concurrently, the good callers' tokens. Returns how often the junk got
/// 401 and 503, and the number of good requests.
async fn flood(setup: &Setup, authenticator: &Authenticator) -> [usize; 3] {
    let reached = Arc::new(AtomicUsize::new(0));
    let handler = {
        let reached = reached.clone();
        move || async move {
            reached.fetch_add(1, Ordering::Relaxed);
        }
    };
    let router = Router::new().route("/", get(handler)).layer(authenticator.layer());
    for token in &setup.good {
        assert_eq!(status(&router, token).await, StatusCode::OK);
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let regulars: Vec<_> = (0..4)
        .map(|_| {
            let (router, good, is_over) = (router.clone(), setup.good.clone(), is_over.clone());
            tokio::spawn(async move {
                let mut requests = 0;
                while !is_over.load(Ordering::Relaxed) {
                    for token in &good {
                        assert_eq!(status(&router, token).await, StatusCode::OK, "a known caller");
                        tokio::task::yield_now().await;
                    }
                    requests += good.len();
                }
                requests
            })
        })
        .collect();
    let (junk, next) = (Arc::new(setup.junk()), Arc::new(AtomicUsize::new(0)));
    let mut senders = JoinSet::new();
    for _ in 0..SENDERS {
        let (router, junk, next) = (router.clone(), junk.clone(), next.clone());
        senders.spawn(async move {
            let (mut rejected, mut undecided) = (0, 0);
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= JUNK {
                    return (rejected, undecided);
                }
                match status(&router, &junk.token(number)).await {
                    StatusCode::UNAUTHORIZED => rejected += 1,
                    StatusCode::SERVICE_UNAVAILABLE => undecided += 1,
                    other => panic!("junk is answered with {other}"),
                }
                tokio::task::yield_now().await;
            }
        });
    }
    let (mut rejected, mut undecided) = (0, 0);
    while let Some(sender) = senders.join_next().await {
        let (more_rejected, more_undecided) = sender.unwrap();
        (rejected, undecided) = (rejected + more_rejected, undecided + more_undecided);
    }
    is_over.store(true, Ordering::Relaxed);
    let mut good = 0;
    for regular in regulars {
        good += regular.await.unwrap();
    }
    assert_eq!(reached.load(Ordering::Relaxed), GOOD_CALLERS + good, "junk reached the handler");
    assert_eq!(rejected + undecided, JUNK);
    let metrics = authenticator.metrics();
    assert_eq!((metrics.in_flight, metrics.waiting), (0, 0));
    assert_eq!(metrics.accepted_entries, GOOD_CALLERS as u64, "an accepted caller was evicted");
    // moka evicts with a delay of a few hundred entries.
    assert!(metrics.rejected_entries <= REJECT_CAPACITY + 1_000, "{metrics:?}");
    [rejected, undecided, good]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_stays_within_the_limit_in_flight_and_delays_no_known_caller() {
    let setup = Setup::new().await;
    let authenticator = setup.authenticator(setup.review());
    // A slow API server, so that the calls overlap.
    setup.cluster.set_fault(Endpoint::TokenReview, Fault::Delay(Duration::from_millis(2)));
    let [rejected, undecided, good] = flood(&setup, &authenticator).await;
    let (most, reviews) = (
        setup.cluster.max_in_flight(Endpoint::TokenReview),
        setup.cluster.calls(Endpoint::TokenReview),
    );
    let limit = MAX_IN_FLIGHT as u64;
    assert!((limit / 2..=limit).contains(&most), "{most} in flight");
    assert_eq!(reviews, (GOOD_CALLERS + rejected) as u64, "one for each decision");
    assert_eq!(authenticator.metrics().saturated, undecided as u64);
    println!(
        "TokenReview: {rejected} × 401, {undecided} × 503, {most} in flight at most, {good} good requests beside"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_screen_a_flood_causes_no_review() {
    let setup = Setup::new().await;
    let jwks = setup.jwks();
    let authenticator = setup.authenticator(setup.review().screened_by(jwks.clone()));
    let [rejected, undecided, good] = flood(&setup, &authenticator).await;
    assert_eq!((rejected, undecided), (JUNK, 0));
    assert_eq!(
        setup.cluster.calls(Endpoint::TokenReview),
        GOOD_CALLERS as u64,
        "one for each good caller, none for junk"
    );
    assert_eq!(setup.cluster.calls(Endpoint::Jwks), 1);
    println!("screened: {rejected} × 401, 0 TokenReviews for them, {good} good requests beside");
}
