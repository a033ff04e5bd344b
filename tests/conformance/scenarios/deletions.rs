//! What TokenReview sees and offline verification cannot: that the ServiceAccount, Pod or Secret is gone.

use tower_kube_auth::verdict::{RejectReason, Verdict};

use crate::{
    scene::{Outcome, Scene, eventually},
    verifiers::{Verifiers, accepted, verify},
};

pub(super) async fn a_token_ends_with_its_pod(scene: Scene) -> Outcome {
    let verifiers = scene.verifiers().await?;
    scene.service_account("robot").await?;
    scene.pod("robot-0", "robot").await?;
    let token = scene.bound_token("robot", &["orders"], "Pod", "robot-0").await?;
    verifiers.verdicts(&token, "orders").await?.accepted();

    scene.delete_pod("robot-0").await?;
    only_tokenreview_refuses(&verifiers, &token).await?;
    // A Pod of the same name is another one.
    scene.pod("robot-0", "robot").await?;
    assert_eq!(
        verify(&verifiers.review, &token, "orders").await?,
        Verdict::Reject(RejectReason::Unauthenticated)
    );
    Ok(())
}

pub(super) async fn a_token_ends_with_its_secret(scene: Scene) -> Outcome {
    let verifiers = scene.verifiers().await?;
    scene.service_account("robot").await?;
    scene.secret("anchor").await?;
    let token = scene.bound_token("robot", &["orders"], "Secret", "anchor").await?;
    verifiers.verdicts(&token, "orders").await?.accepted();

    scene.delete_secret("anchor").await?;
    only_tokenreview_refuses(&verifiers, &token).await
}

pub(super) async fn a_recreated_service_account_is_another_one(scene: Scene) -> Outcome {
    let verifiers = scene.verifiers().await?;
    let old_uid = scene.service_account("robot").await?;
    let old = scene.token("robot", &["orders"]).await?;
    verifiers.verdicts(&old, "orders").await?.accepted();

    scene.delete_service_account("robot").await?;
    let new_uid = scene.service_account("robot").await?;
    assert_ne!(old_uid, new_uid);
    only_tokenreview_refuses(&verifiers, &old).await?;

    let new = scene.token("robot", &["orders"]).await?;
    let verdicts = verifiers.verdicts(&new, "orders").await?;
    let (review, jwks) = verdicts.accepted();
    assert_eq!((review.uid(), jwks.uid()), (&*new_uid, &*new_uid));
    Ok(())
}

/// The documented difference: JWKS accepts until the token expires.
async fn only_tokenreview_refuses(verifiers: &Verifiers, token: &str) -> Outcome {
    eventually("TokenReview to refuse the token", || async {
        let verdict = verify(&verifiers.review, token, "orders").await?;
        Ok(verdict == Verdict::Reject(RejectReason::Unauthenticated))
    })
    .await?;
    accepted(&verify(&verifiers.jwks, token, "orders").await?);
    Ok(())
}
