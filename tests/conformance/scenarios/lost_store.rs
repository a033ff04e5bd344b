//! An API server that cannot reach etcd.

use std::time::Duration;

use tower_kube_auth::{
    error::VerifyErrorKind,
    verdict::{RejectReason, Verdict},
};

use crate::{
    fixture::{Fixture, Outcome, eventually},
    verifiers::{accepted, verify},
};

/// The server reports a failed lookup of the account, answers 5xx, or hangs.
const UNDECIDED: [VerifyErrorKind; 3] =
    [VerifyErrorKind::Inconclusive, VerifyErrorKind::Unavailable, VerifyErrorKind::Timeout];

/// For an account outside its informer cache the API server answers `authenticated: false` although
/// it does not know. A deleted account is the simplest way to get there; a new account is the same.
pub(super) async fn an_account_that_cannot_be_looked_up_is_undecided(fixture: Fixture) -> Outcome {
    // Without etcd the server answers slowly.
    let review = fixture.verifiers().await?.review.timeout(Duration::from_secs(3));
    for account in ["robot", "gone"] {
        fixture.service_account(account).await?;
    }
    let [known, gone] =
        [fixture.token("robot", &["orders"]).await?, fixture.token("gone", &["orders"]).await?];
    let forged = format!("{}AAAA", &known[..known.len() - 4]);
    let rejected = Verdict::Reject(RejectReason::Unauthenticated);
    fixture.delete_service_account("gone").await?;
    let ended = || async { Ok(verify(&review, &gone, "orders").await? == rejected) };
    eventually("the token to end with its account", ended).await?;

    fixture.cluster().start_etcd_outage().await;
    for _ in 0..3 {
        match verify(&review, &gone, "orders").await {
            Err(error) if UNDECIDED.contains(&error.kind()) => {}
            decided => return Err(format!("decided without etcd: {decided:?}").into()),
        }
    }
    accepted(&verify(&review, &known, "orders").await?);
    assert_eq!(verify(&review, &forged, "orders").await?, rejected);

    fixture.cluster().end_etcd_outage().await?;
    let ended = || async {
        Ok(verify(&review, &gone, "orders").await.is_ok_and(|verdict| verdict == rejected))
    };
    eventually("the token to be rejected again", ended).await?;
    accepted(&verify(&review, &known, "orders").await?);
    Ok(())
}
