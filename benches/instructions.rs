//! Repetitions of one path, whose instructions valgrind counts. `.ci/instructions` compares them
//! with a baseline.
//!
//! `instructions <path> <repetitions>`

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
    time::Duration,
};

use axum::http::HeaderValue;
use setup::{
    hits::{Inner, call, request, warm_service, warm_service_with},
    pods::PodGenerator,
    requests::shuffled,
    tokens::{AUDIENCE, ISSUER, Trusting, claims, unsigned},
};
use tower::{Layer, Service};
use tower_kube_auth::{
    Authenticator, BearerToken, JwksVerifier, LiveObjects, Verifier,
    server::Authenticate,
    testing::{Algorithm, SigningKey},
    verdict::Verdict,
    verifier::jwks,
};

fn hits(repetitions: usize) {
    let credentials = shuffled(1, unsigned);
    hits_of(warm_service(&credentials), &credentials, repetitions);
}

/// Hits of a service whose cache a watch invalidates.
fn hits_with_watch(repetitions: usize) {
    let credentials = shuffled(1, unsigned);
    let server = PodGenerator::new(2).api_server();
    let live_objects = LiveObjects::builder(server).build().expect("the options are good");
    let service = warm_service_with(&credentials, |builder| builder.invalidated_by(&live_objects));
    hits_of(service, &credentials, repetitions);
}

fn hits_of(mut service: Authenticate<Inner>, credentials: &[HeaderValue], repetitions: usize) {
    for _ in 0..repetitions {
        assert!(call(&mut service, request(&credentials[0])));
    }
}

fn rejections(repetitions: usize) {
    let auth =
        Authenticator::builder(Trusting).audience(AUDIENCE).build().expect("the options are good");
    let mut service = auth.layer().layer(Inner);
    for _ in 0..repetitions {
        let future = pin!(service.call(axum::http::Request::new(())));
        let answered = future.poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(answered, Poll::Ready(Ok(response)) if response.status() == 401));
    }
}

fn misses(verifier: impl Verifier, tokens: impl Iterator<Item = String>) {
    let builder =
        Authenticator::builder(verifier).audience(AUDIENCE).cache_ttl(Duration::from_secs(3600));
    let auth = builder.cache_capacity(100_000).build().expect("the options are good");
    for token in tokens {
        let verdict = pin!(auth.authenticate(BearerToken::parse(&token).expect("a token")));
        let verdict = verdict.poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(verdict, Poll::Ready(Ok(Verdict::Accept(_)))));
    }
}

/// Rejects a signature of the wrong length, so that only the work of this crate is counted.
fn claims_only(repetitions: usize) {
    let key = SigningKey::generate(Algorithm::EdDSA).expect("random numbers");
    let verifier = JwksVerifier::from_pem(key.public_key_pem())
        .issuer(ISSUER)
        .algorithms([jwks::Algorithm::EdDSA]);
    let verifier = verifier.build().expect("the options are good");
    let audiences = tower_kube_auth::audience::Audiences::new([AUDIENCE]).expect("an audience");
    let token = key.sign(&key.header(), &claims(1));
    // The signature is too short, which the crypto library notices without computing.
    let short = format!("{}.c2ln", token.rsplit_once('.').expect("a JWS").0);
    for _ in 0..repetitions {
        let verdict = verifier.verify_now(BearerToken::parse(&short).expect("a token"), &audiences);
        assert!(matches!(verdict, Some(Verdict::Reject(_))));
    }
}

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let (Some(path), Some(Ok(repetitions))) =
        (arguments.first(), arguments.get(1).map(|text| text.parse()))
    else {
        println!("run .ci/instructions");
        return;
    };
    match path.as_str() {
        "hit" => hits(repetitions),
        "hit_with_watch" => hits_with_watch(repetitions),
        "rejection" => rejections(repetitions),
        "miss" => misses(Trusting, (0..repetitions).map(unsigned)),
        "claims" => claims_only(repetitions),
        "token" => (0..repetitions).for_each(|number| drop(std::hint::black_box(unsigned(number)))),
        _ => panic!("there is no path {path}"),
    }
}
