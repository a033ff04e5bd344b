//! The cost of a token that is not in the cache.
//!
//! `cargo bench --bench miss`

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
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use aws_lc_rs::signature::{self, ParsedPublicKey, UnparsedPublicKey, VerificationAlgorithm};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use setup::{
    contest::{Contest, Outcome, compare},
    review::reviewing_client,
    tokens::{AUDIENCE, ISSUER, Trusting, claims, unsigned},
};
use tower_kube_auth::{
    Authenticator, BearerToken, JwksVerifier, TokenReviewVerifier, Verifier,
    audience::Audiences,
    testing::{Algorithm, SigningKey},
    verdict::Verdict,
    verifier::jwks,
};

/// Each turn has a new authenticator, so that every token is a miss.
const TOKENS: usize = 200;

fn accepted<T: std::fmt::Debug>(future: impl Future<Output = Result<Verdict, T>>) {
    let Poll::Ready(verdict) = pin!(future).poll(&mut Context::from_waker(Waker::noop())) else {
        unreachable!("with a loaded key nothing suspends")
    };
    assert!(matches!(black_box(verdict), Ok(Verdict::Accept(_))));
}

/// Returns an alternative that sends each token once through a new authenticator.
fn misses(
    verifier: impl Verifier + Clone,
    ttl: Duration,
    tokens: &[String],
) -> impl FnMut(usize) -> Duration + '_ {
    move |_| {
        let builder = Authenticator::builder(verifier.clone()).audience(AUDIENCE).cache_ttl(ttl);
        let auth = builder.build().expect("the options are good");
        let start = Instant::now();
        for token in tokens {
            accepted(auth.authenticate(BearerToken::parse(token).expect("a token")));
        }
        start.elapsed()
    }
}

/// Returns an alternative that only verifies the signatures with a parsed key.
fn raw<'a>(key: &'a ParsedPublicKey, tokens: &'a [String]) -> impl FnMut(usize) -> Duration + 'a {
    let split = |token: &'a String| {
        let (message, signature) = token.rsplit_once('.').expect("a JWS");
        (message.as_bytes(), URL_SAFE_NO_PAD.decode(signature).expect("base64url"))
    };
    let parts: Vec<_> = tokens.iter().map(split).collect();
    move |_| {
        let start = Instant::now();
        for (message, signature) in &parts {
            assert!(key.verify_sig(message, signature).is_ok());
        }
        start.elapsed()
    }
}

fn race(
    title: &'static str,
    signer: Algorithm,
    allowed: jwks::Algorithm,
    raw_algorithm: &'static dyn VerificationAlgorithm,
) -> Outcome {
    let key = SigningKey::generate(signer).expect("random numbers");
    let tokens: Vec<_> =
        (0..TOKENS).map(|number| key.sign(&key.header(), &claims(number))).collect();
    let parsed =
        UnparsedPublicKey::new(raw_algorithm, key.public_key_der()).parse().expect("a public key");
    let jwks = JwksVerifier::from_pem(key.public_key_pem()).issuer(ISSUER).algorithms([allowed]);
    let verifier = jwks.build().expect("the options are good");
    let audiences = Audiences::new([AUDIENCE]).expect("an audience");
    let minutes = Duration::from_secs(600);
    Contest::new(title, TOKENS)
        .timed("raw verification", raw(&parsed, &tokens))
        .timed("JwksVerifier alone", |_| {
            let start = Instant::now();
            for token in &tokens {
                accepted(verifier.verify(BearerToken::parse(token).expect("a token"), &audiences));
            }
            start.elapsed()
        })
        .timed("Authenticator, cache off", misses(verifier.clone(), Duration::ZERO, &tokens))
        .timed("Authenticator", misses(verifier.clone(), minutes, &tokens))
        .run(Duration::from_secs(5))
}

/// Measures a miss without the verification: pre-check, single flight, insertion.
fn overhead() {
    let tokens: Vec<_> = (0..TOKENS).map(unsigned).collect();
    Contest::new("a verifier that accepts at once", TOKENS)
        .timed(
            "Authenticator, cache off",
            misses(std::sync::Arc::new(Trusting), Duration::ZERO, &tokens),
        )
        .timed(
            "Authenticator",
            misses(std::sync::Arc::new(Trusting), Duration::from_secs(600), &tokens),
        )
        .run(Duration::from_secs(2));
}

/// Measures a TokenReview with an in-memory API server: the part of this crate and of kube.
fn token_review() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let tokens: Vec<_> = (0..TOKENS).map(unsigned).collect();
    let verifier = runtime.block_on(async { TokenReviewVerifier::new(reviewing_client()) });
    Contest::new("TokenReview, in-memory kube client", TOKENS)
        .timed("Authenticator", |_| {
            let builder = Authenticator::builder(verifier.clone()).audience(AUDIENCE);
            let auth = builder.build().expect("the options are good");
            runtime.block_on(async {
                let start = Instant::now();
                for token in &tokens {
                    let verdict =
                        auth.authenticate(BearerToken::parse(token).expect("a token")).await;
                    assert!(matches!(verdict, Ok(Verdict::Accept(_))), "{verdict:?}");
                }
                start.elapsed()
            })
        })
        .run(Duration::from_secs(3));
}

fn main() {
    let rs256 = race(
        "RS256",
        Algorithm::RS256,
        jwks::Algorithm::RS256,
        &signature::RSA_PKCS1_2048_8192_SHA256,
    );
    race("ES256", Algorithm::ES256, jwks::Algorithm::ES256, &signature::ECDSA_P256_SHA256_FIXED);
    race("EdDSA", Algorithm::EdDSA, jwks::Algorithm::EdDSA, &signature::ED25519);
    overhead();
    token_review();
    compare(
        "RS256 miss / raw verification",
        rs256.nanoseconds("Authenticator") / rs256.nanoseconds("raw verification"),
        "<=",
        1.35,
    );
}
