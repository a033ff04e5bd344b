//! TokenReview and JWKS together, and decisions that are forgotten before their time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use http::StatusCode;
use tower_kube_auth::{
    Authenticator, BearerToken, Verifier,
    audience::Audiences,
    error::VerifyError,
    verdict::{RejectReason, Verdict},
};

use crate::{
    scene::{Outcome, Scene, eventually},
    service::Service,
    verifiers::{accepted, verify},
};

pub(super) async fn junk_stays_at_the_screen(scene: Scene) -> Outcome {
    let verifiers = scene.verifiers().await?;
    scene.service_account("robot").await?;
    let good = scene.token("robot", &["orders"]).await?;
    let (review, reviews) = Counted::new(verifiers.review);
    let service = Service::forgetful(review.screened_by(verifiers.jwks), "orders");
    let (message, signature) = good.rsplit_once('.').ok_or("a token has a signature")?;
    for number in 0..500 {
        // Another signature each time, of the right length.
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

pub(super) async fn a_deletion_is_seen_behind_a_screen(scene: Scene) -> Outcome {
    let verifiers = scene.verifiers().await?;
    scene.service_account("robot").await?;
    scene.pod("robot-0", "robot").await?;
    let token = scene.bound_token("robot", &["orders"], "Pod", "robot-0").await?;
    let screened = verifiers.review.screened_by(verifiers.jwks);
    accepted(&verify(&screened, &token, "orders").await?);
    scene.delete_pod("robot-0").await?;
    eventually("the API server to refuse the token", || async {
        Ok(verify(&screened, &token, "orders").await?
            == Verdict::Reject(RejectReason::Unauthenticated))
    })
    .await
}

/// The API server may answer from its own cache at first; that must not become a minute of ours.
pub(super) async fn an_invalidation_is_faster_than_the_cache(scene: Scene) -> Outcome {
    let verifiers = scene.verifiers().await?;
    scene.service_account("robot").await?;
    let uid = scene.pod("robot-0", "robot").await?;
    let token = scene.bound_token("robot", &["orders"], "Pod", "robot-0").await?;
    // For longer than the scenario waits.
    let ttl = Duration::from_secs(3600);
    let authenticator =
        Authenticator::builder(verifiers.review).audience("orders").cache_ttl(ttl).build()?;
    let service = Service::new(&authenticator);
    let bearer = format!("Bearer {token}");
    assert_eq!(service.ask(&bearer).await.status, StatusCode::OK);
    scene.delete_pod("robot-0").await?;
    assert_eq!(service.ask(&bearer).await.status, StatusCode::OK, "from the cache");
    authenticator.invalidate_pod(&uid);
    eventually("the token to be refused", || async {
        Ok(service.ask(&bearer).await.status == StatusCode::UNAUTHORIZED)
    })
    .await
}

pub(super) async fn in_an_outage_the_fallback_decides_and_says_so(scene: Scene) -> Outcome {
    let verifiers = scene.verifiers().await?;
    scene.service_account("robot").await?;
    let good = scene.token("robot", &["orders"]).await?;
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
    scene.cluster().go_down().await?;
    for _ in 0..3 {
        assert!(is_from_fallback().await?);
        assert_eq!(
            verify(&verifier, &forged, "orders").await?,
            Verdict::Reject(RejectReason::Signature)
        );
    }
    scene.cluster().come_up().await?;
    eventually("the API server to decide again", || async { Ok(!is_from_fallback().await?) }).await
}

/// A verifier, and how often it was asked.
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
