//! Which keys are let into the set, and which key a token is tried with.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::*;

fn usable(jwk: &Value) -> bool {
    let json = json!({ "keys": [jwk] }).to_string();
    let all =
        [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA];
    KeySet::from_json(json.as_bytes(), &all).is_ok_and(|keys| keys.len() == 1)
}

fn changed(key: &SigningKey, name: &str, value: Value) -> Value {
    let mut jwk = key.jwk();
    jwk[name] = value;
    jwk
}

#[test]
fn a_key_for_something_else_is_left_out() {
    let key = key(testing::Algorithm::ES256);
    assert!(usable(&key.jwk()));
    assert!(usable(&changed(&key, "key_ops", json!(["verify"]))));
    for (name, value) in [
        ("use", json!("enc")),
        ("use", json!("")),
        ("key_ops", json!(["sign"])),
        ("key_ops", json!([])),
        ("alg", json!("HS256")),
        ("alg", json!("ES384")),
        ("alg", json!("RSA-OAEP")),
        ("alg", json!("unheard-of")),
        ("kty", json!("RSA")),
        ("kty", json!("oct")),
        ("kty", Value::Null),
        ("crv", json!("P-384")),
        ("crv", json!("P-521")),
        ("crv", json!("secp256k1")),
        ("x", json!("AA")),
        ("x", json!("not base64!")),
        ("x", json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")),
    ] {
        assert!(!usable(&changed(&key, name, value.clone())), "{name}: {value}");
    }
    let mut without_type = key.jwk();
    without_type.as_object_mut().unwrap().remove("kty");
    assert!(!usable(&without_type));
    assert!(!usable(
        &json!({ "kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "alg": "HS256" })
    ));
}

#[test]
fn weak_rsa_keys_are_left_out() {
    let key = key(testing::Algorithm::RS256);
    assert!(usable(&key.jwk()));
    let modulus = |bytes: usize| json!(URL_SAFE_NO_PAD.encode(vec![0xff; bytes]));
    for bytes in [0, 64, 128, 255, 1025] {
        assert!(!usable(&changed(&key, "n", modulus(bytes))), "{bytes} bytes");
    }
    // Leading zeros do not make it longer.
    let padded = [vec![0; 128], vec![0xff; 128]].concat();
    assert!(!usable(&changed(&key, "n", json!(URL_SAFE_NO_PAD.encode(padded)))));
    for exponent in [&[][..], &[0], &[1], &[2], &[1, 0, 0], &[0xff; 9]] {
        assert!(
            !usable(&changed(&key, "e", json!(URL_SAFE_NO_PAD.encode(exponent)))),
            "{exponent:?}"
        );
    }
}

#[tokio::test]
async fn one_broken_key_does_not_spoil_the_others() {
    let key = key(testing::Algorithm::ES256);
    let keys =
        json!([{ "kty": "EC" }, 1, null, [], { "kty": "RSA", "n": "AA", "e": "AQAB" }, key.jwk()]);
    let verifier = JwksVerifier::from_jwks(json!({ "keys": keys }).to_string())
        .issuer(ISSUER)
        .build()
        .unwrap();
    let setup = Setup { verifier, key, ..set_up() };
    assert!(setup.accepts(&setup.sign(&setup.claims())).await);
}

#[tokio::test]
async fn with_a_key_id_only_keys_of_that_id_are_tried_and_without_one_all() {
    let (first, second) = (key(testing::Algorithm::ES256), key(testing::Algorithm::ES256));
    let json = json!({ "keys": [first.jwk(), second.jwk()] }).to_string();
    let setup = Setup {
        verifier: JwksVerifier::from_jwks(json).issuer(ISSUER).build().unwrap(),
        ..set_up()
    };
    let claims = setup.claims();
    for key in [&first, &second] {
        assert!(setup.accepts(&key.sign(&json!({ "alg": "ES256" }), &claims)).await);
        assert!(setup.accepts(&key.sign(&key.header(), &claims)).await);
    }
    let crossed = first.sign(&json!({ "alg": "ES256", "kid": second.kid() }), &claims);
    assert_eq!(setup.verify(&crossed).await.unwrap(), Verdict::Reject(RejectReason::Signature));
    let renamed = first.sign(&json!({ "alg": "ES256", "kid": "other" }), &claims);
    assert_eq!(setup.verify(&renamed).await.unwrap(), Verdict::Reject(RejectReason::UnknownKey));
}

#[tokio::test]
async fn two_keys_of_one_id_are_both_tried() {
    let (first, second) = (key(testing::Algorithm::ES256), key(testing::Algorithm::ES256));
    let named = |key| changed(key, "kid", json!("k"));
    let json = json!({ "keys": [named(&first), named(&second)] }).to_string();
    let setup = Setup {
        verifier: JwksVerifier::from_jwks(json).issuer(ISSUER).build().unwrap(),
        ..set_up()
    };
    for key in [&first, &second] {
        assert!(
            setup.accepts(&key.sign(&json!({ "alg": "ES256", "kid": "k" }), &setup.claims())).await
        );
    }
}

#[tokio::test]
async fn pem_keys_have_the_ids_that_kubernetes_gives_them() {
    let keys = [key(testing::Algorithm::RS256), key(testing::Algorithm::ES256)];
    let pem = keys.each_ref().map(SigningKey::public_key_pem).join("\n");
    let setup =
        Setup { verifier: JwksVerifier::from_pem(pem).issuer(ISSUER).build().unwrap(), ..set_up() };
    for key in &keys {
        assert!(
            setup.accepts(&key.sign(&key.header(), &setup.claims())).await,
            "{:?}",
            key.algorithm()
        );
    }
}

#[tokio::test]
async fn a_file_of_keys_is_read_when_building() {
    let key = key(testing::Algorithm::ES256);
    let path = std::env::temp_dir().join(format!("tower-kube-auth-{}.jwks", key.kid()));
    std::fs::write(&path, json!({ "keys": [key.jwk()] }).to_string()).unwrap();
    let verifier = JwksVerifier::from_jwks_file(&path).issuer(ISSUER).build().unwrap();
    std::fs::remove_file(&path).unwrap();
    let setup = Setup { verifier, key, ..set_up() };
    assert!(setup.accepts(&setup.sign(&setup.claims())).await);
    let error = JwksVerifier::from_jwks_file(&path).issuer(ISSUER).build().unwrap_err();
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

#[test]
fn every_bad_configuration_says_what_to_do() {
    let key = key(testing::Algorithm::ES256);
    let set = || json!({ "keys": [key.jwk()] }).to_string();
    let cases = [
        (JwksVerifier::from_jwks(set()), "--service-account-issuer"),
        (JwksVerifier::from_pem(key.public_key_pem()), "no issuer"),
        (JwksVerifier::from_jwks(set()).issuer(""), "empty"),
        (JwksVerifier::from_jwks(set()).issuer("a "), "white space"),
        (JwksVerifier::from_jwks("{}").issuer(ISSUER), "not a JWK Set"),
        (JwksVerifier::from_jwks("[[]]").issuer(ISSUER), "not a JWK Set"),
        (JwksVerifier::from_jwks(r#"{"keys":[]}"#).issuer(ISSUER), "no key"),
        (
            JwksVerifier::from_jwks(set()).issuer(ISSUER).algorithms([Algorithm::RS256]),
            "algorithms()",
        ),
        (JwksVerifier::from_jwks(set()).issuer(ISSUER).algorithms([]), "at least one"),
        (JwksVerifier::from_jwks(set()).issuer(ISSUER).leeway(Duration::from_secs(301)), "limit"),
        (
            JwksVerifier::from_jwks(set()).issuer(ISSUER).refresh_interval(Duration::ZERO),
            "refresh_interval",
        ),
        (
            JwksVerifier::from_jwks(set()).issuer(ISSUER).fetch_timeout(Duration::ZERO),
            "fetch_timeout",
        ),
        (JwksVerifier::from_pem("").issuer(ISSUER), "PUBLIC KEY"),
        (
            JwksVerifier::from_pem("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----")
                .issuer(ISSUER),
            "key 1",
        ),
        (JwksVerifier::discover("http://issuer.example"), "https"),
        (JwksVerifier::discover("issuer"), "not a URL"),
        (JwksVerifier::discover("https://user:secret@issuer.example"), "user"),
        (JwksVerifier::discover(ISSUER).root_certificate("x"), "CERTIFICATE"),
    ];
    for (builder, advice) in cases {
        let error = builder.build().unwrap_err();
        assert!(error.to_string().contains(advice), "{error} has no {advice}");
    }
}

#[tokio::test]
async fn a_set_of_a_thousand_keys_and_one_of_none() {
    let setup = set_up_with(testing::Algorithm::ES256, |builder| {
        builder.unknown_key_cooldown(Duration::ZERO)
    });
    let many: Vec<_> =
        (0..1000).map(|number| changed(&setup.key, "kid", json!(format!("k{number}")))).collect();
    *setup.source.0.answer.lock().unwrap() = Some(json!({ "keys": many }).to_string());
    setup.verifier.refresh().await.unwrap();
    let token = setup.key.sign(&json!({ "alg": "ES256", "kid": "k999" }), &setup.claims());
    assert!(setup.accepts(&token).await);
    setup.source.publish(&[]);
    setup.verifier.refresh().await.unwrap();
    assert_eq!(setup.verify(&token).await.unwrap(), Verdict::Reject(RejectReason::UnknownKey));
}
