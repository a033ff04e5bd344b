//! Tokens that the issuer did not sign, or not in this form.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use http::StatusCode;
use serde_json::{Value, json};
use tower_kube_auth::{
    error::VerifyErrorKind,
    testing::{Algorithm, SigningKey, sign_hs256},
    verdict::{RejectReason, Verdict},
};

use crate::{
    fixture::{Fixture, Outcome, eventually},
    raw_review::raw_review,
    service::Service,
    verifiers::{Verifiers, accepted, verify},
};

pub(super) async fn garbage_is_rejected(fixture: Fixture) -> Outcome {
    let (verifiers, token) = genuine(&fixture).await?;
    let [header, payload, signature] = parts(&token);
    let forms = [
        "garbage".to_owned(),
        "a.b.c".to_owned(),
        format!("{header}.{payload}"),
        format!("{header}..{signature}"),
        format!(".{payload}.{signature}"),
        format!("{token}.{signature}"),
        token[1..].to_owned(),
    ];
    for form in &forms {
        verifiers.verdicts(form, "orders").await?.rejected(form, RejectReason::Malformed);
    }
    for cut in [1, 2, 100, signature.len() - 1, signature.len()] {
        let truncated = &token[..token.len() - cut];
        assert_eq!(
            verify(&verifiers.review, truncated, "orders").await?,
            Verdict::Reject(RejectReason::Unauthenticated)
        );
        let jwks = verify(&verifiers.jwks, truncated, "orders").await?;
        // Either the base64 has an impossible length or the signature is too short.
        assert!(
            matches!(jwks, Verdict::Reject(RejectReason::Signature | RejectReason::Malformed)),
            "{cut}: {jwks:?}"
        );
    }
    Ok(())
}

pub(super) async fn the_signature_of_another_key_is_rejected(fixture: Fixture) -> Outcome {
    let (verifiers, token) = genuine(&fixture).await?;
    let (header, claims) = (json_of(&token, 0), json_of(&token, 1));
    let stranger = SigningKey::generate(Algorithm::RS256)?;
    let resigned = stranger.sign(&header, &claims);
    verifiers
        .verdicts(&resigned, "orders")
        .await?
        .rejected("under a known key id", RejectReason::Signature);
    let own_id = stranger.sign(&stranger.header(), &claims);
    assert_eq!(
        verify(&verifiers.review, &own_id, "orders").await?,
        Verdict::Reject(RejectReason::Unauthenticated)
    );
    // Undecided until the cooldown allows another fetch of the keys.
    eventually("the stranger's key to be unknown", || async {
        match verify(&verifiers.jwks, &own_id, "orders").await {
            Err(error) if error.kind() == VerifyErrorKind::Inconclusive => Ok(false),
            Ok(Verdict::Reject(RejectReason::UnknownKey)) => Ok(true),
            other => Err(format!("neither rejected nor undecided: {other:?}").into()),
        }
    })
    .await?;
    let curve = SigningKey::generate(Algorithm::ES256)?;
    let confused = curve.sign(&json!({"alg": "ES256", "kid": header["kid"]}), &claims);
    verifiers
        .verdicts(&confused, "orders")
        .await?
        .rejected("another algorithm", RejectReason::Algorithm);
    Ok(())
}

pub(super) async fn unsigned_tokens_are_rejected(fixture: Fixture) -> Outcome {
    let (verifiers, token) = genuine(&fixture).await?;
    let [_, payload, signature] = parts(&token);
    for alg in ["none", "None", "NONE", "nOnE"] {
        let header =
            BASE64URL.encode(json!({"alg": alg, "kid": json_of(&token, 0)["kid"]}).to_string());
        for signature in ["", signature] {
            let unsigned = format!("{header}.{payload}.{signature}");
            assert_eq!(
                verify(&verifiers.review, &unsigned, "orders").await?,
                Verdict::Reject(RejectReason::Unauthenticated)
            );
            let jwks = verify(&verifiers.jwks, &unsigned, "orders").await?;
            assert!(
                matches!(jwks, Verdict::Reject(RejectReason::Algorithm | RejectReason::Malformed)),
                "{alg}: {jwks:?}"
            );
        }
    }
    Ok(())
}

pub(super) async fn a_swapped_payload_is_rejected(fixture: Fixture) -> Outcome {
    let (verifiers, token) = genuine(&fixture).await?;
    fixture.service_account("other").await?;
    let other = fixture.token("other", &["orders"]).await?;
    let ([header, payload, signature], [_, other, _]) = (parts(&token), parts(&other));
    let swapped = format!("{header}.{other}.{signature}");
    verifiers
        .verdicts(&swapped, "orders")
        .await?
        .rejected("another account's payload", RejectReason::Signature);

    let mut claims = json_of(&token, 1);
    claims["exp"] = json!(claims["exp"].as_i64().expect("a time") + 1);
    let longer = format!("{header}.{}.{signature}", BASE64URL.encode(claims.to_string()));
    verifiers.verdicts(&longer, "orders").await?.rejected("a later exp", RejectReason::Signature);
    accepted(&verify(&verifiers.jwks, &format!("{header}.{payload}.{signature}"), "orders").await?);
    Ok(())
}

/// Go's base64 ignores the unused last bits of a signature, so the API server accepts 16 spellings
/// of one RS256 token. Each would be a separate cache entry.
pub(super) async fn other_spellings_of_a_signature_are_rejected(fixture: Fixture) -> Outcome {
    let (verifiers, token) = genuine(&fixture).await?;
    let service = Service::uncached(verifiers.review.clone(), "orders");
    let (start, last) = token.split_at(token.len() - 1);
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let value = alphabet.find(last).expect("a base64 character");
    assert_eq!(value % 16, 0, "256 bytes leave four bits");
    for bits in [1, 7, 15] {
        let respelled = format!("{start}{}", &alphabet[value + bits..=value + bits]);
        let review = raw_review(fixture.admin(), &respelled, &["orders"]).await?;
        assert_eq!(review["authenticated"], true, "Kubernetes accepts it");
        let answer = service.ask(&format!("Bearer {respelled}")).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "rejected without a review");
        let verdict = verify(&verifiers.jwks, &respelled, "orders").await?;
        assert!(
            matches!(verdict, Verdict::Reject(RejectReason::Malformed | RejectReason::Signature)),
            "{verdict:?}"
        );
    }
    assert_eq!(service.ask(&format!("Bearer {token}")).await.status, StatusCode::OK);
    Ok(())
}

pub(super) async fn the_json_serialization_is_rejected(fixture: Fixture) -> Outcome {
    let (verifiers, token) = genuine(&fixture).await?;
    let [header, payload, signature] = parts(&token);
    let flattened =
        json!({"protected": header, "payload": payload, "signature": signature}).to_string();
    let general =
        json!({"payload": payload, "signatures": [{"protected": header, "signature": signature}]})
            .to_string();
    let service = Service::uncached(verifiers.review.clone(), "orders");
    for form in [flattened, general] {
        let review = raw_review(fixture.admin(), &form, &["orders"]).await?;
        assert_ne!(review["authenticated"], true, "Kubernetes rejects it");
        assert_eq!(service.ask(&format!("Bearer {form}")).await.status, StatusCode::BAD_REQUEST);
    }
    Ok(())
}

pub(super) async fn hs256_with_the_public_key_is_rejected(fixture: Fixture) -> Outcome {
    let (verifiers, token) = genuine(&fixture).await?;
    let key = fixture.cluster().signing_key().await;
    let header = json!({"alg": "HS256", "kid": key.kid()});
    let jwk = key.jwk().to_string();
    for secret in [key.public_key_pem().as_bytes(), key.public_key_der(), jwk.as_bytes(), b""] {
        let confused = sign_hs256(&header, &json_of(&token, 1), secret);
        verifiers.verdicts(&confused, "orders").await?.rejected("HS256", RejectReason::Algorithm);
    }
    Ok(())
}

/// Returns verifiers and a token that they accept.
async fn genuine(fixture: &Fixture) -> Outcome<(Verifiers, String)> {
    let verifiers = fixture.verifiers().await?;
    fixture.service_account("robot").await?;
    let token = fixture.token("robot", &["orders"]).await?;
    verifiers.verdicts(&token, "orders").await?.accepted();
    Ok((verifiers, token))
}

fn parts(token: &str) -> [&str; 3] {
    token.split('.').collect::<Vec<_>>().try_into().expect("three parts")
}

fn json_of(token: &str, part: usize) -> Value {
    let bytes = BASE64URL.decode(parts(token)[part]).expect("base64");
    serde_json::from_slice(&bytes).expect("JSON")
}
