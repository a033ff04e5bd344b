//! The API server runs, but it cannot reach its store.

use std::time::Duration;

use tower_kube_auth::{
    error::VerifyErrorKind,
    verdict::{RejectReason, Verdict},
};

use crate::{
    scene::{Outcome, Scene, eventually},
    verifiers::{accepted, verify},
};

/// The server says that it could not look the account up, answers 5xx, or hangs.
const UNDECIDED: [VerifyErrorKind; 3] =
    [VerifyErrorKind::Inconclusive, VerifyErrorKind::Unavailable, VerifyErrorKind::Timeout];

/// Where an account is not among those that the API server has at hand, it says `authenticated: false` and means that it does
/// not know. (That it is a deleted account's token is only how a scenario gets there: a new account's is no different.)
pub(super) async fn what_cannot_be_looked_up_is_undecided(scene: Scene) -> Outcome {
    // A server without its store takes its time.
    let review = scene.verifiers().await?.review.timeout(Duration::from_secs(3));
    for account in ["robot", "gone"] {
        scene.service_account(account).await?;
    }
    let [known, gone] =
        [scene.token("robot", &["orders"]).await?, scene.token("gone", &["orders"]).await?];
    let forged = format!("{}AAAA", &known[..known.len() - 4]);
    let refused = Verdict::Reject(RejectReason::Unauthenticated);
    scene.delete_service_account("gone").await?;
    let ended = || async { Ok(verify(&review, &gone, "orders").await? == refused) };
    eventually("the token to end with its account", ended).await?;

    scene.cluster().lose_store().await;
    for _ in 0..3 {
        match verify(&review, &gone, "orders").await {
            Err(error) if UNDECIDED.contains(&error.kind()) => {}
            decided => return Err(format!("nobody can know that: {decided:?}").into()),
        }
    }
    accepted(&verify(&review, &known, "orders").await?);
    assert_eq!(verify(&review, &forged, "orders").await?, refused);

    scene.cluster().regain_store().await?;
    let ended = || async {
        Ok(verify(&review, &gone, "orders").await.is_ok_and(|verdict| verdict == refused))
    };
    eventually("the token to be refused again", ended).await?;
    accepted(&verify(&review, &known, "orders").await?);
    Ok(())
}
