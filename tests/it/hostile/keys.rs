//! Flawed keys in the issuer's set: each is skipped with a warning that names the flaw, and the
//! other keys stay usable.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use axum::http::StatusCode;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use serde_json::{Value, json};
use tower_kube_auth::testing::{Algorithm, SigningKey};

use crate::support::{Fixture, Log, bearer};

fn changed(key: &SigningKey, name: &str, value: Value) -> Value {
    let mut jwk = key.jwk();
    jwk[name] = value;
    jwk
}

fn without(key: &SigningKey, name: &str) -> Value {
    let mut jwk = key.jwk();
    jwk.as_object_mut().unwrap().remove(name).unwrap();
    jwk
}

/// Returns an odd modulus of `bits` bits.
fn modulus(bits: usize) -> Value {
    json!(BASE64URL.encode(vec![0xff; bits / 8]))
}

/// Forges a signature for an exponent of 1: it is the padded digest itself (RFC 8017 section 9.2).
fn forged_for_exponent_one(key: &SigningKey, claims: &Value) -> String {
    const DIGEST_INFO: [u8; 19] =
        [0x30, 0x31, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 0x20];
    let token = key.sign(&key.header(), claims);
    let (signed, _) = token.rsplit_once('.').unwrap();
    let digest = digest(&SHA256, signed.as_bytes());
    let padding = vec![0xff; 256 - 3 - DIGEST_INFO.len() - 32];
    let signature = [&[0, 1], &padding[..], &[0], &DIGEST_INFO, digest.as_ref()].concat();
    format!("{signed}.{}", BASE64URL.encode(signature))
}

#[tokio::test]
async fn a_flawed_key_is_skipped_with_a_warning_that_names_the_flaw() {
    let [rsa, ec] = [Algorithm::RS256, Algorithm::ES256]
        .map(|algorithm| SigningKey::generate(algorithm).unwrap());
    let cases = [
        ("use enc", &ec, changed(&ec, "use", json!("enc")), "its use is not sig"),
        ("another use", &rsa, changed(&rsa, "use", json!("")), "its use is not sig"),
        (
            "key_ops without verify",
            &ec,
            changed(&ec, "key_ops", json!(["sign"])),
            "its key_ops do not contain verify",
        ),
        ("no kty", &ec, without(&ec, "kty"), "its type is not supported"),
        ("an unknown kty", &ec, changed(&ec, "kty", json!("PQ")), "its type is not supported"),
        ("another kty", &ec, changed(&ec, "kty", json!("RSA")), "its type is not supported"),
        (
            "an alg of another type",
            &rsa,
            changed(&rsa, "alg", json!("ES256")),
            "fits none of the allowed algorithms",
        ),
        (
            "an HMAC alg",
            &rsa,
            changed(&rsa, "alg", json!("HS256")),
            "fits none of the allowed algorithms",
        ),
        (
            "an alg for encryption",
            &rsa,
            changed(&rsa, "alg", json!("RSA-OAEP")),
            "fits none of the allowed algorithms",
        ),
        (
            "another curve",
            &ec,
            changed(&ec, "crv", json!("P-384")),
            "does not have the curve's length",
        ),
        (
            "a point off the curve",
            &ec,
            changed(&ec, "x", ec.jwk()["y"].clone()),
            "fits none of the allowed algorithms",
        ),
        ("512 bits", &rsa, changed(&rsa, "n", modulus(512)), "does not have 2048 to 8192 bits"),
        ("1024 bits", &rsa, changed(&rsa, "n", modulus(1024)), "does not have 2048 to 8192 bits"),
        (
            "32768 bits",
            &rsa,
            changed(&rsa, "n", modulus(32_768)),
            "does not have 2048 to 8192 bits",
        ),
        (
            "an exponent of 1",
            &rsa,
            changed(&rsa, "e", json!("AQ")),
            "exponent is even, 1, or too large",
        ),
        (
            "an even exponent",
            &rsa,
            changed(&rsa, "e", json!("Ag")),
            "exponent is even, 1, or too large",
        ),
        (
            "an exponent of 0",
            &rsa,
            changed(&rsa, "e", json!("AA")),
            "exponent is even, 1, or too large",
        ),
        (
            "a secret key",
            &rsa,
            json!({ "kty": "oct", "k": "c2VjcmV0", "kid": rsa.kid() }),
            "it is a secret key",
        ),
        ("no object", &rsa, json!(null), "it is not a JWK"),
    ];
    let fixture = Fixture::start().await;
    let (cluster, claims) = (&fixture.cluster, fixture.claims());
    for (what, key, jwk, flaw) in cases {
        cluster
            .publish_jwks(Some(json!({ "keys": [jwk, cluster.signing_key().jwk()] }).to_string()));
        let verifier = fixture.jwks().unknown_key_cooldown(Duration::ZERO).build().unwrap();
        let (log, watching) = Log::watch();
        verifier.refresh().await.unwrap();
        drop(watching);
        let lines = log.lines();
        let warning = lines.iter().find(|line| line.contains("position=1"));
        assert!(warning.is_some_and(|warning| warning.contains(flaw)), "{what}: {lines:?}");

        let service = fixture.service(verifier);
        for token in [key.sign(&key.header(), &claims), forged_for_exponent_one(&rsa, &claims)] {
            let answer = service.blocked(bearer(&token)).await;
            answer.assert_invalid_token(what);
        }
        assert_eq!(
            service.get(&cluster.mint(&claims)).await.status,
            StatusCode::OK,
            "{what}: the other key"
        );
    }
}
