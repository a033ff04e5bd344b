//! Rotation of the signing key, as it is done: by restarting the API server with a new key and both public ones.

use tower_kube_auth::{
    error::VerifyErrorKind,
    inspect::UnverifiedToken,
    verdict::{RejectReason, Verdict},
};

use crate::{
    identities::assert_equal,
    scene::{Outcome, Scene, eventually},
    verifiers::{ACCOUNT, Verifiers, accepted, verify},
};

pub(super) async fn old_and_new_tokens_are_accepted_without_a_restart_on_our_side(
    scene: Scene,
) -> Outcome {
    let verifiers = scene.verifiers().await?;
    scene.service_account("robot").await?;
    let old = scene.token("robot", &["orders"]).await?;
    verifiers.verdicts(&old, "orders").await?.accepted();

    scene.cluster().restart_with_new_key().await?;
    let new = scene.token("robot", &["orders"]).await?;
    let [old_key, new_key] = [&old, &new].map(|token| key_id(token));
    assert_ne!(old_key, new_key);
    for token in [&old, &new] {
        eventually("both verifiers to accept it", || accept(&verifiers, token)).await?;
    }
    let verdicts = verifiers.verdicts(&new, "orders").await?;
    let (review, jwks) = verdicts.accepted();
    assert_equal(review, jwks);

    // The end of the rotation: the old key is gone, and with it all that it signed, our own credential included. That
    // is trouble of ours and no decision about the caller.
    scene.cluster().restart_without_old_keys().await?;
    eventually("our own token to be refused", || async {
        match verify(&verifiers.review, &new, "orders").await {
            Err(error) => Ok(error.kind() == VerifyErrorKind::Unauthenticated),
            Ok(verdict) => Err(format!("a decision without a credential: {verdict:?}").into()),
        }
    })
    .await?;
    let renewed = scene.verifiers_as(&scene.token(ACCOUNT, &[]).await?)?;
    eventually("both verifiers to accept it", || accept(&renewed, &new)).await?;
    let review = verify(&renewed.review, &old, "orders").await?;
    assert_eq!(
        review,
        Verdict::Reject(RejectReason::Unauthenticated),
        "a forgotten key's token, by TokenReview"
    );
    eventually("the old key to be unknown offline too", || async {
        match verify(&renewed.jwks, &old, "orders").await {
            Err(error) if error.kind() == VerifyErrorKind::Inconclusive => Ok(false),
            Ok(Verdict::Reject(RejectReason::UnknownKey)) => Ok(true),
            other => Err(format!("neither refused nor undecided: {other:?}").into()),
        }
    })
    .await?;
    // Whoever has the new key goes on with it, although the credential that fetched it is refused by now.
    accepted(&verify(&verifiers.jwks, &new, "orders").await?);
    Ok(())
}

/// Whether both accept. A key that is not known yet leaves the decision open; any refusal is the end.
async fn accept(verifiers: &Verifiers, token: &str) -> Outcome<bool> {
    let review = verify(&verifiers.review, token, "orders").await?;
    match verify(&verifiers.jwks, token, "orders").await {
        Ok(Verdict::Accept(_)) => Ok(matches!(review, Verdict::Accept(_))),
        // The keys were fetched a moment ago, and are not fetched again for every unknown one: undecided.
        Err(error) if error.kind() == VerifyErrorKind::Inconclusive => Ok(false),
        other => Err(format!("neither accepted nor undecided: {other:?}").into()),
    }
}

fn key_id(token: &str) -> Option<String> {
    UnverifiedToken::decode(token).ok()?.key_id().map(str::to_owned)
}
