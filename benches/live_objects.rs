//! What a watch of 100 000 Pods costs, from a generator in place of an API server: memory and time to
//! list, work for each change, and the lookups of a verification.
//!
//! `cargo bench --bench live_objects`

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a bench reads the clock, prints, and panics on a failed expectation"
)]

mod setup;

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use setup::{
    contest::{Contest, compare},
    pods::PodGenerator,
    tokens::{AUDIENCE, Describing, ISSUER, claims, unsigned},
};
use tokio::runtime::{Builder, Runtime};
use tower_kube_auth::{
    Authenticator, BearerToken, JwksVerifier, LiveObjects, LocalReviewVerifier, Verifier,
    audience::Audiences,
    testing::{Algorithm, SigningKey},
    verdict::Verdict,
};

const PODS: usize = 100_000;
const CHANGES: usize = 20_000;
/// The changes a second of a busy cluster, for which the share of a core is given.
const CHANGES_PER_SECOND: f64 = 1_000.0;
const CACHED_CALLERS: usize = 10_000;

fn main() {
    memory_and_time_to_list();
    lookups();
    changes();
}

fn synced(generator: &PodGenerator) -> (Runtime, LiveObjects) {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let live_objects = runtime.block_on(async {
        let builder = LiveObjects::builder(generator.api_server());
        let live_objects = builder.build().expect("the options are good");
        live_objects.synced().await;
        live_objects
    });
    (runtime, live_objects)
}

fn memory_and_time_to_list() {
    let mut kept = None;
    let used = allocation_counter::measure(|| {
        let began = Instant::now();
        let (runtime, live_objects) = synced(&PodGenerator::new(PODS));
        println!("{PODS} Pods listed in {:.0?}, with their generation", began.elapsed());
        assert_eq!(live_objects.state()[1].objects, PODS);
        kept = Some((runtime, live_objects));
    });
    println!("at most {:.1} MB during the list", used.bytes_max as f64 / 1e6);
    let each = used.bytes_current as f64 / PODS as f64;
    compare("bytes for each watched object", each, "<=", 128.0);
    drop(kept);
}

/// Compares a verification with and without the lookups of ServiceAccount and Pod.
fn lookups() {
    let (_runtime, live_objects) = synced(&PodGenerator::new(PODS));
    let key = SigningKey::generate(Algorithm::RS256).expect("random numbers");
    let token = key.sign(&key.header(), &claims(0));
    let token = BearerToken::parse(&token).expect("a token");
    let jwks = JwksVerifier::from_pem(key.public_key_pem()).issuer(ISSUER);
    let jwks = jwks.build().expect("the options are good");
    let local_review = LocalReviewVerifier::new(jwks.clone(), live_objects);
    let audiences = Audiences::new([AUDIENCE]).expect("an audience");
    let accepts = |verdict| assert!(matches!(verdict, Some(Verdict::Accept(_))));
    let outcome = Contest::new("a verification of a token of RS256", 500)
        .with("JwksVerifier", || accepts(jwks.verify_now(token, &audiences)))
        .with("LocalReviewVerifier", || accepts(local_review.verify_now(token, &audiences)))
        .run(Duration::from_secs(4));
    let [jwks, local_review] =
        ["JwksVerifier", "LocalReviewVerifier"].map(|name| outcome.nanoseconds(name));
    println!("the lookups of a ServiceAccount and a Pod: {:.0} ns", local_review - jwks);
    compare("live verification / JWKS verification", local_review / jwks, "<=", 1.1);
}

fn changes() {
    for callers in [0, CACHED_CALLERS] {
        let generator = PodGenerator::new(PODS).with_events(CHANGES);
        let (runtime, live_objects) = synced(&generator);
        let auth = Authenticator::builder(Describing::default()).audience(AUDIENCE);
        let auth = auth.cache_capacity(100_000).invalidated_by(&live_objects);
        let auth = auth.build().expect("the options are good");
        for number in 0..callers {
            let token = unsigned(number);
            let verdict = pin!(auth.authenticate(BearerToken::parse(&token).expect("a token")));
            let verdict = verdict.poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(verdict, Poll::Ready(Ok(Verdict::Accept(_)))));
        }
        generator.send_events();
        let began = Instant::now();
        runtime.block_on(async {
            while live_objects.state()[1].events < CHANGES as u64 {
                tokio::task::yield_now().await;
            }
        });
        let each = began.elapsed().as_secs_f64() / CHANGES as f64;
        println!("\na change, with {callers} cached callers: {:.2} \u{b5}s", each * 1e6);
        // Each deletion is a pass over the cached callers.
        let (share, target) =
            (each * CHANGES_PER_SECOND * 100.0, if callers == 0 { 1.0 } else { 30.0 });
        compare("percent of a core, 1 000 changes and 100 deletions a second", share, "<=", target);
    }
}
