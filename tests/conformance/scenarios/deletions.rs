//! Deleted ServiceAccounts, Pods and Secrets, which TokenReview notices and JWKS cannot.

use tower_kube_auth::verdict::{RejectReason, Verdict};

use crate::{
    fixture::{Fixture, Outcome, eventually},
    verifiers::{Verifiers, accepted, verify},
};

pub(super) async fn a_token_ends_with_its_pod(fixture: Fixture) -> Outcome {
    let verifiers = fixture.verifiers().await?;
    fixture.service_account("robot").await?;
    fixture.pod("robot-0", "robot").await?;
    let token = fixture.bound_token("robot", &["orders"], "Pod", "robot-0").await?;
    verifiers.verdicts(&token, "orders").await?.accepted();

    fixture.delete_pod("robot-0").await?;
    only_tokenreview_rejects(&verifiers, &token).await?;
    // A new Pod with the same name has another uid.
    fixture.pod("robot-0", "robot").await?;
    assert_eq!(
        verify(&verifiers.review, &token, "orders").await?,
        Verdict::Reject(RejectReason::Unauthenticated)
    );
    Ok(())
}

pub(super) async fn a_token_ends_with_its_secret(fixture: Fixture) -> Outcome {
    let verifiers = fixture.verifiers().await?;
    fixture.service_account("robot").await?;
    fixture.secret("anchor").await?;
    let token = fixture.bound_token("robot", &["orders"], "Secret", "anchor").await?;
    verifiers.verdicts(&token, "orders").await?.accepted();

    fixture.delete_secret("anchor").await?;
    only_tokenreview_rejects(&verifiers, &token).await
}

pub(super) async fn a_recreated_service_account_is_another_one(fixture: Fixture) -> Outcome {
    let verifiers = fixture.verifiers().await?;
    let old_uid = fixture.service_account("robot").await?;
    let old = fixture.token("robot", &["orders"]).await?;
    verifiers.verdicts(&old, "orders").await?.accepted();

    fixture.delete_service_account("robot").await?;
    let new_uid = fixture.service_account("robot").await?;
    assert_ne!(old_uid, new_uid);
    only_tokenreview_rejects(&verifiers, &old).await?;

    let new = fixture.token("robot", &["orders"]).await?;
    let verdicts = verifiers.verdicts(&new, "orders").await?;
    let (review, jwks) = verdicts.accepted();
    assert_eq!((review.uid(), jwks.uid()), (&*new_uid, &*new_uid));
    Ok(())
}

/// The documented difference: JWKS accepts until the token expires.
async fn only_tokenreview_rejects(verifiers: &Verifiers, token: &str) -> Outcome {
    eventually("TokenReview to reject the token", || async {
        let verdict = verify(&verifiers.review, token, "orders").await?;
        Ok(verdict == Verdict::Reject(RejectReason::Unauthenticated))
    })
    .await?;
    accepted(&verify(&verifiers.jwks, token, "orders").await?);
    Ok(())
}
