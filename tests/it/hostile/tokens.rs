//! Forged and malformed tokens against each verifier: none reaches the handler, and the answer
//! tells the caller no more than that the token is invalid.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderValue, Request, StatusCode},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use serde_json::json;
use tower_kube_auth::{
    VerifierExt,
    testing::{Algorithm, SigningKey, sign_hs256},
};

use crate::support::{Fixture, Service};

/// A cluster, and one service for each verifier.
struct Services {
    fixture: Fixture,
    services: [(&'static str, Service); 3],
}

/// A description of a token, and its text.
type Hostile = (String, String);

impl Services {
    async fn start(algorithm: Algorithm) -> Self {
        let fixture = Fixture::start_with(|builder| builder.signing_algorithm(algorithm)).await;
        let review = fixture.review();
        // Without a cooldown, an unknown key id is rejected at once.
        let jwks = fixture.jwks().unknown_key_cooldown(Duration::ZERO).build().unwrap();
        let both = review.clone().screened_by(jwks.clone()).or_when_unavailable(jwks.clone());
        let services = [
            ("JWKS", fixture.service(jwks)),
            ("TokenReview", fixture.service(review)),
            ("both", fixture.service(both.clock(fixture.clock.clock()))),
        ];
        Self { fixture, services }
    }

    /// Asserts that every service rejects `tokens` as RFC 6750 requires, before its handler.
    async fn reject(&self, tokens: impl IntoIterator<Item = Hostile>) {
        for (what, token) in tokens {
            let value = HeaderValue::from_bytes(format!("Bearer {token}").as_bytes());
            let value = value.unwrap_or_else(|_| panic!("{what}: not a header value"));
            for (name, service) in &self.services {
                let request = Request::get("/").header("authorization", value.clone());
                let answer = service.blocked(request.body(Body::empty()).unwrap()).await;
                let what = format!("{what}, {name}: {}", answer.status);
                let (status, code) = if is_token68(&token) {
                    (StatusCode::UNAUTHORIZED, "error=\"invalid_token\"")
                } else {
                    (StatusCode::BAD_REQUEST, "error=\"invalid_request\"")
                };
                assert_eq!(answer.status, status, "{what}");
                assert!(answer.challenge().is_some_and(|it| it.contains(code)), "{what}");
                let body =
                    ["the bearer token is not accepted", "the Authorization header is malformed"];
                assert!(body.contains(&&*answer.body), "{what}: {}", answer.body);
            }
        }
    }

    async fn accept(&self, token: &str) {
        for (name, service) in &self.services {
            assert_eq!(service.get(token).await.status, StatusCode::OK, "{name}: a valid token");
        }
    }
}

impl std::ops::Deref for Services {
    type Target = Fixture;

    fn deref(&self) -> &Fixture {
        &self.fixture
    }
}

fn is_token68(token: &str) -> bool {
    let text = token.trim_end_matches('=');
    let member = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    !text.is_empty() && text.bytes().all(member) && token.len() <= 16 * 1024
}

fn parts(token: &str) -> [&str; 3] {
    token.split('.').collect::<Vec<_>>().try_into().unwrap()
}

/// Signs a header and claims that need not be JSON or UTF-8.
fn raw(key: &SigningKey, header: &[u8], claims: &[u8]) -> String {
    key.sign_bytes(key.algorithm().name(), header, claims)
}

#[tokio::test]
async fn unsigned_tokens_and_confused_algorithms_are_rejected() {
    for algorithm in [Algorithm::RS256, Algorithm::ES256] {
        let setup = Services::start(algorithm).await;
        let (key, claims) = (setup.cluster.signing_key(), setup.claims());
        setup.accept(&setup.cluster.mint(&claims)).await;
        let mut tokens = Vec::new();
        for alg in [
            "none", "None", "NONE", "nOnE", "", "HS256", "RS256 ", "rs256", "ES512", "dir",
            "RSA-OAEP",
        ] {
            let header = BASE64URL.encode(json!({ "alg": alg, "kid": key.kid() }).to_string());
            let payload = BASE64URL.encode(claims.to_string());
            for signature in ["", "AA", parts(&setup.cluster.mint(&claims))[2]] {
                tokens.push((format!("alg {alg:?}"), format!("{header}.{payload}.{signature}")));
            }
        }
        for alg in [json!(null), json!(["none"]), json!(0), json!({})] {
            tokens.push((
                format!("alg {alg}"),
                key.sign(&json!({ "alg": alg, "kid": key.kid() }), &claims),
            ));
        }
        tokens.push(("no alg".into(), key.sign(&json!({ "kid": key.kid() }), &claims)));
        let jwk = key.jwk().to_string();
        for (what, secret) in [
            ("PEM", key.public_key_pem().as_bytes()),
            ("PEM without its last line end", key.public_key_pem().trim_end().as_bytes()),
            ("DER", key.public_key_der()),
            ("JWK", jwk.as_bytes()),
            ("an empty secret", b""),
        ] {
            for header in [json!({ "alg": "HS256", "kid": key.kid() }), json!({ "alg": "HS256" })] {
                tokens.push((
                    format!("HS256 with the public key as {what}"),
                    sign_hs256(&header, &claims, secret),
                ));
            }
        }
        setup.reject(tokens).await;
    }
}

/// A token must not select the key that verifies it, and its key id is only looked up.
#[tokio::test]
async fn a_token_cannot_choose_the_key_that_verifies_it() {
    let setup = Services::start(Algorithm::ES256).await;
    let (key, attacker, claims) = (
        setup.cluster.signing_key(),
        SigningKey::generate(Algorithm::ES256).unwrap(),
        setup.claims(),
    );
    let mut tokens = Vec::new();
    for (name, value) in [
        ("jwk", attacker.jwk()),
        ("jku", json!("https://attacker.example/jwks")),
        ("jku", json!(format!("{}/openid/v1/jwks", setup.cluster.url()))),
        ("x5u", json!("https://attacker.example/certificate")),
        ("x5c", json!(["MIIB"])),
        ("x5t", json!("AAAA")),
    ] {
        for kid in [Some(key.kid()), Some(attacker.kid()), None] {
            let mut header = json!({ "alg": "ES256", "kid": kid, name: value });
            if kid.is_none() {
                header.as_object_mut().unwrap().remove("kid");
            }
            tokens.push((format!("{name} and kid {kid:?}"), attacker.sign(&header, &claims)));
        }
    }
    let long = "k".repeat(1 << 20);
    for kid in [
        "../../../../etc/passwd",
        "/dev/null",
        "https://attacker.example/key",
        "' OR '1'='1",
        "key; DROP TABLE keys",
        "\u{0}",
        "${jndi:ldap://attacker.example}",
        "",
        &long[..8 << 10],
        &long,
    ] {
        let what = format!("kid {kid:.20}");
        tokens.push((what.clone(), attacker.sign(&json!({ "alg": "ES256", "kid": kid }), &claims)));
    }
    for kid in [json!(1), json!(["a"]), json!({ "a": 1 }), json!(true)] {
        tokens.push((
            format!("kid {kid}"),
            key.sign(&json!({ "alg": "ES256", "kid": kid }), &claims),
        ));
    }
    tokens.push(("another key under a known key id".into(), attacker.sign(&key.header(), &claims)));
    setup.reject(tokens).await;
    setup.accept(&setup.cluster.mint(&claims)).await;
}

#[tokio::test]
async fn invalid_signatures_are_rejected() {
    for algorithm in [Algorithm::ES256, Algorithm::RS256] {
        let setup = Services::start(algorithm).await;
        let token = setup.cluster.mint(&setup.claims());
        let [header, payload, signature] = parts(&token);
        let bytes = BASE64URL.decode(signature).unwrap();
        let half = bytes.len() / 2;
        let (r, s) = bytes.split_at(half);
        // The order n of P-256. ECDSA requires r and s in the range 1 to n - 1.
        let order = BASE64URL.decode("_____wAAAAD__________7zm-q2nF56E87nKwvxjJVE").unwrap();
        let (zero, ones, one) =
            (vec![0; half], vec![0xff; half], [vec![0; half - 1], vec![1]].concat());
        let mut forged = vec![
            ("empty", vec![]),
            ("a byte", vec![0]),
            ("zeros", vec![0; bytes.len()]),
            ("ones", vec![0xff; bytes.len()]),
            ("r zero", [&zero, s].concat()),
            ("s zero", [r, &zero].concat()),
            ("r and s one", [one.clone(), one].concat()),
            ("r beyond the order", [&ones, s].concat()),
            ("s beyond the order", [r, &ones].concat()),
            ("halves swapped", [s, r].concat()),
            ("r alone", r.to_vec()),
            ("a byte short", bytes[..bytes.len() - 1].to_vec()),
            ("a byte too long", [&bytes[..], &[0]].concat()),
            ("a leading zero", [&[0], &bytes[..]].concat()),
            ("twice", bytes.repeat(2)),
            ("8 KiB", vec![0; 8 << 10]),
        ];
        if half == order.len() {
            forged.extend([
                ("r the order", [&order, s].concat()),
                ("s the order", [r, &order].concat()),
            ]);
            // JWS requires r || s (RFC 7518 section 3.4), not the DER encoding that X.509 uses.
            let der = [&[0x30, 0x44, 0x02, 0x20][..], r, &[0x02, 0x20], s].concat();
            forged.push(("in DER", der));
        }
        for position in [0, half - 1, half, bytes.len() - 1] {
            let mut other = bytes.clone();
            other[position] ^= 1;
            forged.push(("a flipped bit", other));
        }
        let signed = |(what, forged): (&str, Vec<u8>)| {
            (what.to_owned(), format!("{header}.{payload}.{}", BASE64URL.encode(forged)))
        };
        setup.reject(forged.into_iter().map(signed)).await;
        setup.accept(&token).await;
    }
}

#[tokio::test]
async fn serializations_other_than_a_compact_jws_are_rejected() {
    let setup = Services::start(Algorithm::RS256).await;
    let key = setup.cluster.signing_key();
    let token = setup.cluster.mint(&setup.claims());
    let [header, payload, signature] = parts(&token);
    let (flat, general) = (
        json!({ "protected": header, "payload": payload, "signature": signature }),
        json!({ "payload": payload, "signatures": [{ "protected": header, "signature": signature }] }),
    );
    let respelled: String = {
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let (start, last) = token.split_at(token.len() - 1);
        let value = alphabet.find(last).unwrap();
        format!("{start}{}", &alphabet[value + 1..=value + 1])
    };
    let tokens = [
        ("one part", "garbage".into()),
        ("two parts", format!("{header}.{payload}")),
        ("detached", format!("{header}..{signature}")),
        ("no header", format!(".{payload}.{signature}")),
        ("no signature", format!("{header}.{payload}.")),
        ("four parts", format!("{token}.{signature}")),
        ("JWE", format!("{token}.{payload}.{signature}")),
        ("JSON, flattened", flat.to_string()),
        ("JSON, general", general.to_string()),
        ("JSON in base64", BASE64URL.encode(flat.to_string())),
        ("padding", format!("{token}=")),
        ("padding inside", format!("{header}=.{payload}.{signature}")),
        ("other unused bits at the end", respelled),
        ("the standard base64 alphabet", format!("{header}.{payload}.+/{}", &signature[2..])),
        ("a space", format!("{header}.{payload} .{signature}")),
        ("a space before", format!(" {token}")),
        ("a tab", format!("{header}.\t{payload}.{signature}")),
        ("two tokens with a comma", format!("{token},{token}")),
        ("a trailing dot", format!("{token}.")),
        ("percent-encoded", token.replace('.', "%2E")),
        ("quotes", format!("\"{token}\"")),
        ("a non-ASCII letter", format!("{token}\u{fc}")),
    ];
    setup.reject(tokens.map(|(what, token): (&str, String)| (what.to_owned(), token))).await;

    let (good_header, good_claims) = (key.header().to_string(), setup.claims().to_string());
    let deep = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let mut tokens = Vec::new();
    for (what, bytes) in [
        ("a list", b"[]".to_vec()),
        ("null", b"null".to_vec()),
        ("a string", b"\"x\"".to_vec()),
        ("empty", vec![]),
        ("not JSON", b"x".to_vec()),
        ("two objects", b"{}{}".to_vec()),
        ("an open object", b"{".to_vec()),
        ("deeply nested JSON", deep(5_000).into_bytes()),
        ("deeply nested JSON in an object", format!("{{\"a\":{}}}", deep(4_000)).into_bytes()),
        ("UTF-16", "{}".encode_utf16().flat_map(u16::to_be_bytes).collect()),
        ("a byte order mark", [b"\xef\xbb\xbf", good_claims.as_bytes()].concat()),
    ] {
        tokens.push((format!("claims: {what}"), raw(&key, good_header.as_bytes(), &bytes)));
        tokens.push((format!("header: {what}"), raw(&key, &bytes, good_claims.as_bytes())));
    }
    for (name, value) in [
        ("crit", json!(["exp"])),
        ("crit", json!("exp")),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("enc", json!("A128GCM")),
    ] {
        let mut header = key.header();
        header[name] = value;
        if name != "crit" {
            header["crit"] = json!([name]);
        }
        tokens.push((format!("header {name}"), key.sign(&header, &setup.claims())));
    }
    setup.reject(tokens).await;
}
