//! Synchronous verification: tried first, in place, and held to the same rules.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use axum::http::StatusCode;
use serde_json::json;
use tower_kube_auth::{
    Authenticator, BearerToken, JwksVerifier, Verifier,
    audience::Audiences,
    clock::Clock,
    error::{VerifyError, VerifyErrorKind},
    testing::{Algorithm, SigningKey},
    verdict::{RejectReason, Verdict},
};

use crate::support::{Service, accept, bearer, token};

/// Decides some tokens synchronously and the others asynchronously, and panics on one.
#[derive(Clone, Default)]
struct Computing {
    now: Arc<AtomicUsize>,
    later: Arc<AtomicUsize>,
}

impl Verifier for Computing {
    async fn verify(&self, _: BearerToken<'_>, _: &Audiences) -> Result<Verdict, VerifyError> {
        self.later.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        Ok(accept())
    }

    fn verify_now(&self, presented: BearerToken<'_>, _: &Audiences) -> Option<Verdict> {
        self.now.fetch_add(1, Ordering::SeqCst);
        let is = |name: &str| presented.expose_secret() == token(name);
        assert!(!is("fatal"), "on purpose");
        match () {
            () if is("known") => Some(accept()),
            () if is("forged") => Some(Verdict::Reject(RejectReason::Signature)),
            () => None,
        }
    }
}

impl Computing {
    fn asked(&self) -> (usize, usize) {
        (self.now.load(Ordering::SeqCst), self.later.load(Ordering::SeqCst))
    }
}

#[tokio::test]
async fn synchronous_decisions_are_cached_and_other_tokens_reach_the_backend() {
    let verifier = Computing::default();
    let service =
        Service::new(&Authenticator::builder(verifier.clone()).audience("api").build().unwrap());
    for _ in 0..3 {
        assert_eq!(service.get(&token("known")).await.status, StatusCode::OK);
        assert_eq!(
            service.blocked(bearer(&token("forged"))).await.status,
            StatusCode::UNAUTHORIZED
        );
    }
    assert_eq!(verifier.asked(), (2, 0));
    assert_eq!(service.get(&token("unknown")).await.status, StatusCode::OK);
    assert_eq!(service.get(&token("unknown")).await.status, StatusCode::OK);
    assert_eq!(verifier.asked(), (3, 1));
}

#[tokio::test]
async fn a_panic_in_verify_now_is_a_failure_and_is_not_cached() {
    let verifier = Computing::default();
    let authenticator = Authenticator::builder(verifier.clone()).audience("api").build().unwrap();
    for calls in 1..=2 {
        let error = authenticator
            .authenticate(BearerToken::parse(&token("fatal")).unwrap())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), VerifyErrorKind::Aborted);
        assert_eq!(verifier.asked(), (calls, 0));
    }
}

#[tokio::test]
async fn the_configured_issuers_are_checked_before_verify_now() {
    let verifier = Computing::default();
    let builder =
        Authenticator::builder(verifier.clone()).audience("api").issuer("https://ours.example");
    let service = Service::new(&builder.build().unwrap());
    assert_eq!(service.blocked(bearer(&token("known"))).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(verifier.asked(), (0, 0), "the token names no issuer");
}

#[tokio::test]
async fn a_leeway_larger_than_the_pre_checks_is_respected() {
    let key = SigningKey::generate(Algorithm::ES256).unwrap();
    let now = Clock::system().wall().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({
        "iss": "https://issuer.example", "sub": "system:serviceaccount:ns:sa", "aud": ["api"], "exp": now - 120,
        "kubernetes.io": {"namespace": "ns", "serviceaccount": {"name": "sa", "uid": "u"}},
    });
    let late = key.sign(&key.header(), &claims);
    for (leeway, expected) in [(300, StatusCode::OK), (60, StatusCode::UNAUTHORIZED)] {
        let builder = JwksVerifier::from_pem(key.public_key_pem()).issuer("https://issuer.example");
        let verifier = builder.leeway(Duration::from_secs(leeway)).build().unwrap();
        let service =
            Service::new(&Authenticator::builder(verifier).audience("api").build().unwrap());
        assert_eq!(service.get(&late).await.status, expected, "leeway {leeway} s");
    }
}
