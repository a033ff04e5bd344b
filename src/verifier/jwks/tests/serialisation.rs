//! Hostile headers, encodings and signatures.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::*;

async fn outcome(setup: &Setup, token: &str) -> Verdict {
    // What is not even token68 never reaches a verifier.
    match BearerToken::parse(token) {
        Ok(_) => setup.verify(token).await.unwrap(),
        Err(_) => Verdict::Reject(RejectReason::Malformed),
    }
}

#[tokio::test]
async fn none_and_hmac_are_rejected_whatever_the_key() {
    let setup = set_up_with(testing::Algorithm::RS256, |builder| builder);
    let claims = setup.claims();
    for name in [
        "none", "None", "NONE", "", "HS256", "HS384", "HS512", "rs256", "RS256 ", "ES512",
        "RSA-OAEP", "dir",
    ] {
        let header = json!({ "alg": name, "kid": setup.key.kid() }).to_string();
        for signature in ["", "AA"] {
            let token = format!(
                "{}.{}.{signature}",
                URL_SAFE_NO_PAD.encode(&header),
                URL_SAFE_NO_PAD.encode(claims.to_string())
            );
            assert_eq!(
                outcome(&setup, &token).await,
                Verdict::Reject(RejectReason::Algorithm),
                "{name}"
            );
        }
    }
    for secret in [setup.key.public_key_pem().into_bytes(), setup.key.public_key_der().to_vec()] {
        let token = testing::sign_hs256(
            &json!({ "alg": "HS256", "kid": setup.key.kid() }),
            &claims,
            &secret,
        );
        assert_eq!(outcome(&setup, &token).await, Verdict::Reject(RejectReason::Algorithm));
    }
}

#[tokio::test]
async fn an_algorithm_outside_of_the_allow_list_is_rejected_though_the_signature_fits() {
    let setup = set_up_with(testing::Algorithm::RS256, |builder| builder);
    for name in ["RS384", "RS512", "PS256", "PS384", "PS512"] {
        let token =
            setup.key.sign(&json!({ "alg": name, "kid": setup.key.kid() }), &setup.claims());
        assert_eq!(
            outcome(&setup, &token).await,
            Verdict::Reject(RejectReason::Algorithm),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_key_is_bound_to_its_own_type_and_alg() {
    let (rsa, ec) = (key(testing::Algorithm::RS256), key(testing::Algorithm::ES256));
    let all = [
        Algorithm::RS256,
        Algorithm::RS384,
        Algorithm::PS256,
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::EdDSA,
    ];
    let setup = set_up_with(testing::Algorithm::ES256, |builder| builder.algorithms(all));
    setup.source.publish(&[&rsa, &ec]);
    // The embedded cluster publishes `alg`: RS256 for the RSA key.
    for (name, kid) in [
        ("RS384", rsa.kid()),
        ("PS256", rsa.kid()),
        ("ES256", rsa.kid()),
        ("RS256", ec.kid()),
        ("ES384", ec.kid()),
    ] {
        let token = rsa.sign(&json!({ "alg": name, "kid": kid }), &setup.claims());
        assert_eq!(
            outcome(&setup, &token).await,
            Verdict::Reject(RejectReason::Algorithm),
            "{name}"
        );
    }
    let token = rsa.sign(&json!({ "alg": "RS256", "kid": rsa.kid() }), &setup.claims());
    assert!(setup.accepts(&token).await);
}

#[tokio::test]
async fn the_token_has_no_say_in_which_key_verifies_it() {
    let setup = set_up();
    let attacker = key(testing::Algorithm::ES256);
    for (name, value) in [
        ("jwk", attacker.jwk()),
        ("jku", json!("https://attacker.example/jwks")),
        ("x5u", json!("https://attacker.example/cert")),
        ("x5c", json!(["MIIB"])),
    ] {
        let mut header = json!({ "alg": "ES256", "kid": setup.key.kid() });
        header[name] = value;
        let forged = attacker.sign(&header, &setup.claims());
        assert_eq!(
            outcome(&setup, &forged).await,
            Verdict::Reject(RejectReason::Signature),
            "{name}"
        );
        assert!(
            setup.accepts(&setup.key.sign(&header, &setup.claims())).await,
            "{name} is ignored"
        );
        header.as_object_mut().unwrap().remove("kid");
        assert_eq!(
            outcome(&setup, &attacker.sign(&header, &setup.claims())).await,
            Verdict::Reject(RejectReason::Signature)
        );
    }
    assert_eq!(setup.source.fetches(), 1, "nothing is fetched for a header");
}

#[tokio::test]
async fn a_key_id_is_only_ever_looked_up() {
    let setup = set_up_with(testing::Algorithm::ES256, |builder| {
        builder.unknown_key_cooldown(Duration::ZERO)
    });
    for kid in [
        "../../etc/passwd",
        "https://attacker.example",
        "' OR 1=1 --",
        "",
        "\u{0}",
        &"k".repeat(1 << 13),
    ] {
        let token = setup.key.sign(&json!({ "alg": "ES256", "kid": kid }), &setup.claims());
        let audiences = Audiences::new(["api"]).unwrap();
        let verdict = setup.verifier.verify(BearerToken::parse(&token).unwrap(), &audiences);
        assert_eq!(verdict.await.unwrap(), Verdict::Reject(RejectReason::UnknownKey), "{kid:.20}");
    }
    for kid in [json!(1), json!(["a"]), json!({})] {
        let token = setup.key.sign(&json!({ "alg": "ES256", "kid": kid }), &setup.claims());
        assert_eq!(outcome(&setup, &token).await, Verdict::Reject(RejectReason::Malformed));
    }
}

#[tokio::test]
async fn critical_extensions_and_other_kinds_are_rejected() {
    let setup = set_up();
    for (name, value) in [
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("crit", Value::Null),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("enc", json!("A128GCM")),
        ("typ", json!("JOSE")),
        ("typ", json!("at+jwt")),
        ("typ", json!(1)),
    ] {
        let mut header = setup.key.header();
        header[name] = value.clone();
        let token = setup.key.sign(&header, &setup.claims());
        assert_eq!(
            outcome(&setup, &token).await,
            Verdict::Reject(RejectReason::Malformed),
            "{name}: {value}"
        );
    }
    for kind in ["JWT", "jwt"] {
        let mut header = setup.key.header();
        header["typ"] = json!(kind);
        assert!(setup.accepts(&setup.key.sign(&header, &setup.claims())).await);
    }
}

#[tokio::test]
async fn what_is_not_a_compact_jws_with_json_objects_is_malformed() {
    let setup = set_up();
    let good = setup.sign(&setup.claims());
    let parts: Vec<_> = good.split('.').collect();
    let [header, claims, signature] = parts[..] else { panic!() };
    let encode = |text: &[u8]| URL_SAFE_NO_PAD.encode(text);
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(5_000), "]".repeat(5_000));
    let mut tokens = vec![
        "a".into(),
        "a.b".into(),
        format!("{header}.{claims}"),
        format!("{good}.{signature}"),
        format!("{header}..{signature}"),
        format!(".{claims}.{signature}"),
        format!("{header}.{claims}.{signature}="),
        format!("{header}=.{claims}.{signature}"),
        format!("{header}.{claims}.{}", signature.replace(['-', '_'], "+")),
        format!("{}.{claims}.{signature}", encode(b"[]")),
        format!("{}.{claims}.{signature}", encode(br#"["ES256"]"#)),
        format!("{}.{claims}.{signature}", encode(b"null")),
        format!("{}.{claims}.{signature}", encode(b"{}")),
        format!("{}.{claims}.{signature}", encode(br#"{"alg":"ES256","alg":"ES256"}"#)),
        format!("{}.{claims}.{signature}", encode(b"{\"alg\":\"ES256\xff\"}")),
        format!("{}.{claims}.{signature}", encode(deep.as_bytes())),
        // JWE: five parts. JSON serialisation is not even token68.
        format!("{header}.{claims}.{signature}.{signature}.{signature}"),
        format!(
            "{{\"protected\":\"{header}\",\"payload\":\"{claims}\",\"signature\":\"{signature}\"}}"
        ),
    ];
    for claims in
        [&b"[]"[..], b"null", b"\"x\"", b"", b"{\"iss\":\"\xff\"}", b"{} {}", deep.as_bytes()]
    {
        tokens.push(setup.key.sign_bytes(
            "ES256",
            setup.key.header().to_string().as_bytes(),
            claims,
        ));
    }
    for token in tokens {
        let verdict = outcome(&setup, &token).await;
        // A plus is in token68's alphabet but not in base64url's: unless the signature has neither
        // '-' nor '_'.
        let unchanged = token == good;
        assert!(
            unchanged || verdict == Verdict::Reject(RejectReason::Malformed),
            "{verdict:?} for {token:.60}"
        );
    }
}

#[tokio::test]
async fn every_other_signature_is_rejected() {
    for algorithm in [testing::Algorithm::ES256, testing::Algorithm::RS256] {
        let setup = set_up_with(algorithm, |builder| builder);
        let good = setup.sign(&setup.claims());
        assert!(setup.accepts(&good).await);
        let (message, signature) = good.rsplit_once('.').unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let mut forged = vec![
            vec![],
            vec![0],
            vec![0; bytes.len()],
            vec![0xff; bytes.len()],
            [&bytes[..], &[0]].concat(),
        ];
        forged.push(bytes[..bytes.len() - 1].to_vec());
        for position in [0, bytes.len() / 2, bytes.len() - 1] {
            let mut other = bytes.clone();
            other[position] ^= 1;
            forged.push(other);
        }
        if algorithm == testing::Algorithm::ES256 {
            // r or s zero, and the other half kept.
            forged.push([&[0; 32], &bytes[32..]].concat());
            forged.push([&bytes[..32], &[0; 32]].concat());
        }
        for signature in forged {
            let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(&signature));
            assert_eq!(outcome(&setup, &token).await, Verdict::Reject(RejectReason::Signature));
        }
        let fetches = setup.source.fetches();
        assert_eq!(fetches, 1, "a bad signature under a known key id never refreshes");
    }
}

#[tokio::test]
async fn a_token_has_one_spelling_only() {
    // 256 bytes leave two bits in the last of 342 characters unused, 64 bytes four in the last of
    // 86.
    for algorithm in [testing::Algorithm::RS256, testing::Algorithm::ES256] {
        let setup = set_up_with(algorithm, |builder| builder);
        let good = setup.sign(&setup.claims());
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut accepted = 0;
        for last in alphabet.chars() {
            let spelling = format!("{}{last}", &good[..good.len() - 1]);
            accepted += usize::from(setup.accepts(&spelling).await);
        }
        assert_eq!(accepted, 1);
    }
}

#[tokio::test]
async fn a_swapped_payload_is_rejected() {
    let setup = set_up();
    let (mine, other) = (setup.sign(&setup.claims()), setup.sign(&setup.with("jti", json!("x"))));
    let claims = other.split('.').nth(1).unwrap();
    let parts: Vec<_> = mine.split('.').collect();
    let swapped = format!("{}.{claims}.{}", parts[0], parts[2]);
    assert_eq!(outcome(&setup, &swapped).await, Verdict::Reject(RejectReason::Signature));
}
