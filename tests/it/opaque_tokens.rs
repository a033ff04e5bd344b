//! Tokens that are no JWTs, and verifiers that decide about them.

use axum::http::StatusCode;
use tower_kube_auth::{
    BearerToken, DynVerifier, Verdict, Verifier, VerifierExt, audience::Audiences,
    error::VerifyError, verdict::RejectReason,
};

use crate::support::{Behavior, FakeVerifier, Service, accept, bearer, token};

const OPAQUE: &str = "an-opaque-token";

/// Accepts one opaque token, and asks `FakeVerifier` so that calls are counted.
#[derive(Clone)]
struct Opaque(FakeVerifier);

impl Opaque {
    fn new() -> Self {
        Self(FakeVerifier::scripted(async |token| {
            Ok(if token == OPAQUE {
                accept()
            } else {
                Verdict::Reject(RejectReason::Unauthenticated)
            })
        }))
    }

    fn service(&self, verifier: impl Verifier) -> Service {
        let builder = tower_kube_auth::Authenticator::builder(verifier).audience("api");
        Service::new(&builder.clock(self.0.clock.clock()).build().unwrap())
    }
}

impl Verifier for Opaque {
    async fn verify(
        &self,
        token: BearerToken<'_>,
        audiences: &Audiences,
    ) -> Result<Verdict, VerifyError> {
        self.0.verify(token, audiences).await
    }

    fn accepts_opaque_tokens(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_verifier_that_says_so_decides_about_opaque_tokens() {
    let opaque = Opaque::new();
    for verifier in [
        DynVerifier::new(opaque.clone()),
        DynVerifier::new(opaque.clone().screened_by(opaque.clone())),
        DynVerifier::new(opaque.clone().or_when_unavailable(FakeVerifier::accepting())),
    ] {
        let service = opaque.service(verifier);
        assert_eq!(service.get(OPAQUE).await.status, StatusCode::OK);
        let calls = opaque.0.calls();
        assert_eq!(service.get(OPAQUE).await.status, StatusCode::OK, "from the cache");
        service.blocked(bearer("another")).await.assert_invalid_token("another");
        service.blocked(bearer("another")).await.assert_invalid_token("from the cache");
        assert!(opaque.0.calls() <= calls + 2, "one verification for each text");
    }
}

#[tokio::test]
async fn a_verifier_that_does_not_say_so_never_sees_opaque_tokens() {
    let verifier = FakeVerifier::accepting();
    let opaque = Opaque::new();
    for verifier in [
        DynVerifier::new(verifier.clone()),
        DynVerifier::new(opaque.clone().screened_by(verifier.clone())),
        DynVerifier::new(verifier.clone().or_when_unavailable(opaque.clone())),
    ] {
        let service = Opaque::new().service(verifier);
        service.blocked(bearer(OPAQUE)).await.assert_invalid_token("no JWT");
    }
    assert_eq!((verifier.calls(), opaque.0.calls()), (0, 0));
}

#[tokio::test]
async fn the_claims_of_a_jwt_are_checked_first_all_the_same() {
    let opaque = Opaque::new();
    let service = opaque.service(opaque.clone());
    let for_another_audience = "e30.eyJhdWQiOiJvdGhlciJ9.c2ln";
    service.blocked(bearer(for_another_audience)).await.assert_invalid_token("another audience");
    assert_eq!(opaque.0.calls(), 0);
    service.blocked(bearer(&token("a"))).await.assert_invalid_token("the verifier decides");
    assert_eq!(opaque.0.calls(), 1);
}

/// An offline fallback cannot read an opaque token, which says nothing about the token.
#[tokio::test]
async fn a_fallback_that_reads_jwts_only_rejects_no_opaque_token() {
    let opaque = Opaque::new();
    let jwts_only = FakeVerifier::rejecting(RejectReason::Malformed);
    let service = opaque.service(opaque.clone().or_when_unavailable(jwts_only));
    opaque.0.set(Behavior::Fail);
    service.blocked(bearer(OPAQUE)).await.assert_unavailable();
}
