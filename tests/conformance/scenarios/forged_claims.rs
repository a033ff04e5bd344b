//! Tokens with invalid claims, signed by the issuer's own key.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tower_kube_auth::{
    inspect::UnverifiedToken,
    testing::SigningKey,
    verdict::{RejectReason, Verdict},
};

use crate::{
    fixture::{Fixture, Outcome},
    verifiers::{Verifiers, accepted, verify},
    version::Version,
};

/// Kubernetes' leeway for a token's times.
const LEEWAY: u64 = 60;

/// A change to valid claims, and its description.
type Case = (&'static str, fn(&mut Value));

pub(super) async fn exp_is_enforced(fixture: Fixture) -> Outcome {
    let forge = Forge::new(&fixture).await?;
    let now = seconds();
    forge
        .verdicts(|claims| claims["exp"] = (now - LEEWAY - 10).into())
        .await?
        .rejected("expired", RejectReason::Expired);
    forge
        .verdicts(|claims| claims["exp"] = 0.into())
        .await?
        .rejected("1970", RejectReason::Expired);
    forge.verdicts(|claims| claims["exp"] = (now + 600).into()).await?.accepted();
    // Kubernetes accepts a token without `exp`. JWKS does not: it would never notice its end.
    let endless = forge.verdicts(|claims| remove(claims, "exp")).await?;
    assert_eq!(endless.jwks, Verdict::Reject(RejectReason::Expired));
    Ok(())
}

pub(super) async fn nbf_and_iat_in_the_future_are_not_valid_yet(fixture: Fixture) -> Outcome {
    let forge = Forge::new(&fixture).await?;
    let now = seconds();
    let later = forge.verdicts(|claims| claims["nbf"] = (now + LEEWAY + 100).into()).await?;
    later.rejected("nbf", RejectReason::NotYetValid);
    // JWKS rejects an `iat` in the future in every version.
    let later = forge.verdicts(|claims| claims["iat"] = (now + LEEWAY + 100).into()).await?;
    assert_eq!(later.jwks, Verdict::Reject(RejectReason::NotYetValid));
    match forge.version.refuses_issue_times_to_come() {
        Some(true) => assert_eq!(
            later.review,
            Verdict::Reject(RejectReason::Unauthenticated),
            "iat: by TokenReview"
        ),
        Some(false) => {
            assert_eq!(accepted(&later.review).name(), "robot", "1.20 ignores iat")
        }
        None => {}
    }
    // The leeway tolerates clock skew.
    for claim in ["nbf", "iat"] {
        forge.verdicts(|claims| claims[claim] = (now + LEEWAY / 2).into()).await?.accepted();
    }
    Ok(())
}

pub(super) async fn claims_of_anything_but_a_service_account_are_rejected(
    fixture: Fixture,
) -> Outcome {
    let forge = Forge::new(&fixture).await?;
    forge
        .verdicts(|claims| claims["iss"] = "https://elsewhere.example".into())
        .await?
        .rejected("another issuer", RejectReason::Issuer);
    // Kubernetes reads only the private claims. JWKS requires `sub` to agree with them, because
    // Kubernetes does not issue a token in which they differ.
    let contradictions: [Case; 3] = [
        ("another subject", |claims| {
            claims["sub"] = "system:serviceaccount:kube-system:admin".into()
        }),
        ("a user", |claims| claims["sub"] = "kubernetes-admin".into()),
        ("no subject", |claims| remove(claims, "sub")),
    ];
    for (what, change) in contradictions {
        let verdicts = forge.verdicts(change).await?;
        assert_eq!(accepted(&verdicts.review).name(), "robot", "{what}: by TokenReview");
        rejected_as_no_service_account(what, &verdicts.jwks);
    }
    let cases: [Case; 5] = [
        ("no private claims", |claims| remove(claims, "kubernetes.io")),
        ("another namespace", |claims| claims["kubernetes.io"]["namespace"] = "kube-system".into()),
        ("another name", |claims| {
            claims["kubernetes.io"]["serviceaccount"]["name"] = "other".into()
        }),
        ("no uid", |claims| remove(&mut claims["kubernetes.io"]["serviceaccount"], "uid")),
        ("private claims of another kind", |claims| claims["kubernetes.io"] = json!("x")),
    ];
    for (what, change) in cases {
        let verdicts = forge.verdicts(change).await?;
        assert_eq!(
            verdicts.review,
            Verdict::Reject(RejectReason::Unauthenticated),
            "{what}: by TokenReview"
        );
        rejected_as_no_service_account(what, &verdicts.jwks);
    }
    // Only the API server knows the current uid.
    let uid =
        forge.token(|claims| claims["kubernetes.io"]["serviceaccount"]["uid"] = "another".into());
    assert_eq!(
        verify(&forge.verifiers.review, &uid, "orders").await?,
        Verdict::Reject(RejectReason::Unauthenticated)
    );
    Ok(())
}

#[track_caller]
fn rejected_as_no_service_account(what: &str, jwks: &Verdict) {
    let fitting = [RejectReason::NotAServiceAccount, RejectReason::Malformed];
    assert!(
        matches!(jwks, Verdict::Reject(reason) if fitting.contains(reason)),
        "{what}: by JWKS: {jwks:?}"
    );
}

struct Forge {
    verifiers: Verifiers,
    key: SigningKey,
    claims: Value,
    version: Version,
}

impl Forge {
    async fn new(fixture: &Fixture) -> Outcome<Self> {
        let verifiers = fixture.verifiers().await?;
        fixture.service_account("robot").await?;
        let token = fixture.token("robot", &["orders"]).await?;
        let claims = Value::Object(UnverifiedToken::decode(&token)?.claims().clone());
        let forge = Self {
            verifiers,
            key: fixture.cluster().signing_key().await,
            claims,
            version: fixture.cluster().version(),
        };
        // The forged tokens differ from valid ones only in the change.
        forge.verdicts(|_| ()).await?.accepted();
        Ok(forge)
    }

    fn token(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = self.claims.clone();
        change(&mut claims);
        self.key.sign(&self.key.header(), &claims)
    }

    async fn verdicts(
        &self,
        change: impl FnOnce(&mut Value),
    ) -> Outcome<crate::verifiers::Verdicts> {
        self.verifiers.verdicts(&self.token(change), "orders").await
    }
}

fn remove(object: &mut Value, key: &str) {
    object.as_object_mut().expect("an object").remove(key).expect("a claim");
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs()
}
