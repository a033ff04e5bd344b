//! TokenReview combined with JWKS, and invalidation of cached decisions.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use http::StatusCode;
use tower_kube_auth::{
    Authenticator, BearerToken, Verifier, VerifierExt,
    audience::Audiences,
    error::VerifyError,
    verdict::{RejectReason, Verdict},
};

use crate::{
    fixture::{Fixture, Outcome, eventually},
    service::Service,
    verifiers::{accepted, verify},
};

pub(super) async fn forged_tokens_are_rejected_by_the_screen_without_a_review(
    fixture: Fixture,
) -> Outcome {
    let verifiers = fixture.verifiers().await?;
    fixture.service_account("robot").await?;
    let good = fixture.token("robot", &["orders"]).await?;
    let (review, reviews) = Counted::new(verifiers.review);
    let service = Service::uncached(review.screened_by(verifiers.jwks), "orders");
    let (message, signature) = good.rsplit_once('.').ok_or("a token has a signature")?;
    for number in 0..500 {
        // A different signature each time, with the right length.
        let forged = format!("{message}.{number:04}{}", &signature[4..]);
        let answer = service.ask(&format!("Bearer {forged}")).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert!(answer.challenge.is_some_and(|challenge| challenge.contains("invalid_token")));
    }
    assert_eq!(reviews.load(SeqCst), 0);
    assert_eq!(service.ask(&format!("Bearer {good}")).await.status, StatusCode::OK);
    assert_eq!(reviews.load(SeqCst), 1);
    Ok(())
}

pub(super) async fn a_deletion_is_noticed_behind_a_screen(fixture: Fixture) -> Outcome {
    let verifiers = fixture.verifiers().await?;
    fixture.service_account("robot").await?;
    fixture.pod("robot-0", "robot").await?;
    let token = fixture.bound_token("robot", &["orders"], "Pod", "robot-0").await?;
    let screened = verifiers.review.screened_by(verifiers.jwks);
    accepted(&verify(&screened, &token, "orders").await?);
    fixture.delete_pod("robot-0").await?;
    eventually("the API server to reject the token", || async {
        Ok(verify(&screened, &token, "orders").await?
            == Verdict::Reject(RejectReason::Unauthenticated))
    })
    .await
}

/// The API server may answer from its own cache at first. That answer must not be cached for the
/// whole TTL.
pub(super) async fn an_invalidation_takes_effect_before_the_cache_ttl_ends(
    fixture: Fixture,
) -> Outcome {
    let verifiers = fixture.verifiers().await?;
    fixture.service_account("robot").await?;
    let uid = fixture.pod("robot-0", "robot").await?;
    let token = fixture.bound_token("robot", &["orders"], "Pod", "robot-0").await?;
    // Longer than the scenario waits.
    let ttl = Duration::from_secs(3600);
    let authenticator =
        Authenticator::builder(verifiers.review).audience("orders").cache_ttl(ttl).build()?;
    let service = Service::new(&authenticator);
    let bearer = format!("Bearer {token}");
    assert_eq!(service.ask(&bearer).await.status, StatusCode::OK);
    fixture.delete_pod("robot-0").await?;
    assert_eq!(service.ask(&bearer).await.status, StatusCode::OK, "from the cache");
    authenticator.invalidate_pod(&uid);
    eventually("the token to be rejected", || async {
        Ok(service.ask(&bearer).await.status == StatusCode::UNAUTHORIZED)
    })
    .await
}

pub(super) async fn in_an_outage_the_fallback_decides_and_marks_the_identity(
    fixture: Fixture,
) -> Outcome {
    let verifiers = fixture.verifiers().await?;
    fixture.service_account("robot").await?;
    let good = fixture.token("robot", &["orders"]).await?;
    let forged = format!("{}AAAA", &good[..good.len() - 4]);
    verifiers.jwks.refresh().await?;
    let verifier =
        verifiers.review.timeout(Duration::from_secs(2)).or_when_unavailable(verifiers.jwks);
    let is_from_fallback = || async {
        Ok::<_, VerifyError>(
            accepted(&verify(&verifier, &good, "orders").await?).is_from_fallback(),
        )
    };
    assert!(!is_from_fallback().await?);
    fixture.cluster().go_down().await?;
    for _ in 0..3 {
        assert!(is_from_fallback().await?);
        assert_eq!(
            verify(&verifier, &forged, "orders").await?,
            Verdict::Reject(RejectReason::Signature)
        );
    }
    fixture.cluster().come_up().await?;
    eventually("the API server to decide again", || async { Ok(!is_from_fallback().await?) }).await
}

/// A verifier that counts its calls.
struct Counted<V>(V, Arc<AtomicUsize>);

impl<V> Counted<V> {
    fn new(verifier: V) -> (Self, Arc<AtomicUsize>) {
        let calls = Arc::new(AtomicUsize::new(0));
        (Self(verifier, calls.clone()), calls)
    }
}

impl<V: Verifier> Verifier for Counted<V> {
    async fn verify(
        &self,
        token: BearerToken<'_>,
        audiences: &Audiences,
    ) -> Result<Verdict, VerifyError> {
        self.1.fetch_add(1, SeqCst);
        self.0.verify(token, audiences).await
    }
}
