//! Rotation of the signing key: the API server restarts with a new key and both public keys.

use tower_kube_auth::{
    error::VerifyErrorKind,
    inspect::UnverifiedToken,
    verdict::{RejectReason, Verdict},
};

use crate::{
    fixture::{Fixture, Outcome, eventually},
    identities::assert_equal,
    verifiers::{ACCOUNT, Verifiers, accepted, verify},
};

pub(super) async fn old_and_new_tokens_are_accepted_without_a_restart_of_the_service(
    fixture: Fixture,
) -> Outcome {
    let verifiers = fixture.verifiers().await?;
    fixture.service_account("robot").await?;
    let old = fixture.token("robot", &["orders"]).await?;
    verifiers.verdicts(&old, "orders").await?.accepted();

    fixture.cluster().restart_with_new_key().await?;
    let new = fixture.token("robot", &["orders"]).await?;
    let [old_key, new_key] = [&old, &new].map(|token| key_id(token));
    assert_ne!(old_key, new_key);
    for token in [&old, &new] {
        eventually("both verifiers to accept it", || accept(&verifiers, token)).await?;
    }
    let verdicts = verifiers.verdicts(&new, "orders").await?;
    let (review, jwks) = verdicts.accepted();
    assert_equal(review, jwks);

    // The rotation ends: all tokens of the old key are invalid, the service's own credential
    // included. That is a failure of the service, not a decision about the caller.
    fixture.cluster().restart_without_old_keys().await?;
    eventually("the own token to be rejected", || async {
        match verify(&verifiers.review, &new, "orders").await {
            Err(error) => Ok(error.kind() == VerifyErrorKind::Unauthenticated),
            Ok(verdict) => Err(format!("a decision without a credential: {verdict:?}").into()),
        }
    })
    .await?;
    let renewed = fixture.verifiers_as(&fixture.token(ACCOUNT, &[]).await?)?;
    eventually("both verifiers to accept it", || accept(&renewed, &new)).await?;
    let review = verify(&renewed.review, &old, "orders").await?;
    assert_eq!(
        review,
        Verdict::Reject(RejectReason::Unauthenticated),
        "a token of the removed key, by TokenReview"
    );
    eventually("the old key to be unknown to JWKS too", || async {
        match verify(&renewed.jwks, &old, "orders").await {
            Err(error) if error.kind() == VerifyErrorKind::Inconclusive => Ok(false),
            Ok(Verdict::Reject(RejectReason::UnknownKey)) => Ok(true),
            other => Err(format!("neither rejected nor undecided: {other:?}").into()),
        }
    })
    .await?;
    // A verifier with the new key keeps it, although its own credential is rejected by now.
    accepted(&verify(&verifiers.jwks, &new, "orders").await?);
    Ok(())
}

/// Returns whether both accept. An unknown key is undecided; a rejection is an error.
async fn accept(verifiers: &Verifiers, token: &str) -> Outcome<bool> {
    let review = verify(&verifiers.review, token, "orders").await?;
    match verify(&verifiers.jwks, token, "orders").await {
        Ok(Verdict::Accept(_)) => Ok(matches!(review, Verdict::Accept(_))),
        // Within the cooldown an unknown key triggers no fetch.
        Err(error) if error.kind() == VerifyErrorKind::Inconclusive => Ok(false),
        other => Err(format!("neither accepted nor undecided: {other:?}").into()),
    }
}

fn key_id(token: &str) -> Option<String> {
    UnverifiedToken::decode(token).ok()?.key_id().map(str::to_owned)
}
