//! Claims that the issuer's own key signs but that Kubernetes would not issue, for each verifier.

use std::time::UNIX_EPOCH;

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::support::{BothVerifiers, Service};

impl BothVerifiers {
    fn now(&self) -> f64 {
        self.clock.clock().wall().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
    }

    fn with(&self, path: &str, value: Value) -> String {
        let mut claims = self.claims();
        match path.rsplit_once('/') {
            Some((parent, name)) => claims.pointer_mut(parent).unwrap()[name] = value,
            None => claims[path] = value,
        }
        claims.to_string()
    }

    fn without(&self, path: &str) -> String {
        let mut claims = self.claims();
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        claims.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name).unwrap();
        claims.to_string()
    }

    fn sign(&self, claims: &[u8]) -> String {
        let key = self.cluster.signing_key();
        key.sign_bytes("ES256", key.header().to_string().as_bytes(), claims)
    }

    /// Returns whether `service` accepts the token. If not, it answers 401 and not by its handler.
    async fn accepts(service: &Service, token: &str, what: &str) -> bool {
        let reached = service.reached();
        let answer = service.get(token).await;
        let accepted = answer.status == StatusCode::OK;
        assert_eq!(service.reached() - reached, usize::from(accepted), "{what}");
        if !accepted {
            answer.assert_invalid_token(what);
        }
        accepted
    }

    async fn check(&self, claims: impl AsRef<[u8]>, expected: [bool; 2]) {
        let what = String::from_utf8_lossy(claims.as_ref()).into_owned();
        let token = self.sign(claims.as_ref());
        let jwks = Self::accepts(&self.jwks, &token, &what).await;
        let review = Self::accepts(&self.review, &token, &what).await;
        assert_eq!([jwks, review], expected, "[JWKS, TokenReview]: {what}");
    }
}

const BOTH: [bool; 2] = [true, true];
const NEITHER: [bool; 2] = [false, false];
/// Accepted by Kubernetes, rejected by JWKS.
const ONLY_REVIEW: [bool; 2] = [false, true];

#[tokio::test]
async fn only_a_matching_string_audience_is_accepted() {
    let setup = BothVerifiers::start().await;
    for audience in
        [json!("orders"), json!(["orders"]), json!(["x", "orders"]), json!(["orders", "orders"])]
    {
        setup.check(setup.with("aud", audience), BOTH).await;
    }
    for audience in [
        json!([]),
        json!(""),
        json!([""]),
        json!(1),
        json!(1.5),
        json!(true),
        json!({}),
        json!({ "orders": true }),
        json!(["orders", 1]),
        json!(["orders", null]),
        json!([["orders"]]),
        json!("ORDERS"),
        json!("orders "),
        json!("orders,x"),
        json!("x orders"),
        json!(["order", "s"]),
        json!("orders\u{0}"),
        json!("\u{43e}rders"),
        json!(null),
    ] {
        setup.check(setup.with("aud", audience), NEITHER).await;
    }
    setup.check(setup.without("aud"), NEITHER).await;
}

#[tokio::test]
async fn only_numeric_times_in_range_are_accepted() {
    let setup = BothVerifiers::start().await;
    let now = setup.now();
    for (claim, time) in [
        ("exp", json!(now + 600.5)),
        ("exp", json!((now + 600.0).floor())),
        ("exp", json!(now - 50.5)),
        ("nbf", json!(now - 0.5)),
        ("iat", json!(now + 50.5)),
        ("iat", json!(0)),
    ] {
        setup.check(setup.with(claim, time), BOTH).await;
    }
    for time in [json!("4000000000"), json!([4e9]), json!({ "now": 1 }), json!(true), json!("soon")]
    {
        for claim in ["exp", "nbf", "iat"] {
            setup.check(setup.with(claim, time.clone()), NEITHER).await;
        }
    }
    for time in [
        json!(0),
        json!(-1),
        json!(-1.5),
        json!(-1e300),
        json!(1e300),
        json!(u64::MAX),
        json!(now - 61.5),
    ] {
        setup.check(setup.with("exp", time), NEITHER).await;
    }
    for claim in ["nbf", "iat"] {
        setup.check(setup.with(claim, json!(now + 62.0)), NEITHER).await;
        setup.check(setup.with(claim, json!(i64::MAX / 2)), NEITHER).await;
    }
    let good = setup.claims().to_string();
    let expiry = setup.claims()["exp"].to_string();
    for text in [
        "1e999",
        "-1e999",
        "NaN",
        "Infinity",
        "0x7fffffff",
        "1_000_000_000_000",
        "04000000000",
        "4e",
        "",
    ] {
        setup
            .check(
                good.replacen(&format!("\"exp\":{expiry}"), &format!("\"exp\":{text}"), 1),
                NEITHER,
            )
            .await;
    }
    // Kubernetes accepts a token without `exp`.
    setup.check(setup.without("exp"), ONLY_REVIEW).await;
    setup.check(setup.with("exp", Value::Null), ONLY_REVIEW).await;
}

#[tokio::test]
async fn only_the_exact_issuer_and_a_well_formed_account_are_accepted() {
    let setup = BothVerifiers::start().await;
    setup.check(setup.claims().to_string(), BOTH).await;
    let issuer = setup.cluster.issuer();
    for value in [
        json!([issuer]),
        json!({ "iss": issuer }),
        json!(1),
        json!(null),
        json!(""),
        json!(format!("{issuer}/")),
        json!(format!(" {issuer}")),
        json!(issuer.to_uppercase()),
        json!("https://attacker.example"),
        json!("kubernetes/serviceaccount"),
    ] {
        setup.check(setup.with("iss", value), NEITHER).await;
    }
    setup.check(setup.without("iss"), NEITHER).await;

    // Kubernetes reads only the private claims; JWKS requires `sub` to agree with them.
    for value in
        [json!("system:serviceaccount:kube-system:admin"), json!("system:masters"), json!("")]
    {
        setup.check(setup.with("sub", value), ONLY_REVIEW).await;
    }
    for value in [json!(1), json!(["system:serviceaccount:shop:checkout"])] {
        setup.check(setup.with("sub", value), NEITHER).await;
    }
    let account = "/kubernetes.io/serviceaccount";
    for (path, value) in [
        ("kubernetes.io".to_owned(), json!([])),
        ("kubernetes.io".to_owned(), json!("shop/checkout")),
        ("kubernetes.io".to_owned(), json!(null)),
        ("/kubernetes.io/namespace".to_owned(), json!("kube-system")),
        ("/kubernetes.io/namespace".to_owned(), json!("../shop")),
        ("/kubernetes.io/namespace".to_owned(), json!(["shop"])),
        (account.to_owned(), json!(["checkout", "uid"])),
        (account.to_owned(), json!(null)),
        (format!("{account}/name"), json!("checkout:admin")),
        (format!("{account}/name"), json!("")),
        (format!("{account}/name"), json!(1)),
        (format!("{account}/uid"), json!("")),
        (format!("{account}/uid"), json!(null)),
    ] {
        setup.check(setup.with(&path, value), NEITHER).await;
    }
    for path in ["kubernetes.io", "/kubernetes.io/namespace", "/kubernetes.io/serviceaccount/uid"] {
        setup.check(setup.without(path), NEITHER).await;
    }
}

/// Parsers that keep the first and parsers that keep the last duplicate disagree on the identity.
#[tokio::test]
async fn duplicate_claims_and_invalid_utf_8_are_rejected() {
    let setup = BothVerifiers::start().await;
    let good = setup.claims().to_string();
    for (name, value) in [
        ("aud", r#"["orders"]"#),
        ("aud", r#"["x"]"#),
        ("exp", "4000000000"),
        ("nbf", "0"),
        ("iat", "0"),
        ("iss", "\"https://attacker.example\""),
        ("sub", "\"system:serviceaccount:shop:checkout\""),
        ("jti", "\"x\""),
        ("kubernetes.io", "{}"),
    ] {
        let spelled = name.replacen(
            name.chars().next().unwrap(),
            &format!("\\u{:04x}", u32::from(name.as_bytes()[0])),
            1,
        );
        for name in [name, &spelled] {
            setup.check(good.replacen('{', &format!("{{\"{name}\":{value},"), 1), NEITHER).await;
            let last = format!("{},\"{name}\":{value}}}", &good[..good.len() - 1]);
            setup.check(last, NEITHER).await;
        }
    }
    for (inside, twice) in [
        ("\"namespace\":\"shop\"", "\"namespace\":\"kube-system\",\"namespace\":\"shop\""),
        ("\"name\":\"checkout\"", "\"name\":\"checkout\",\"name\":\"admin\""),
    ] {
        assert!(good.contains(inside), "{good}");
        setup.check(good.replacen(inside, twice, 1), NEITHER).await;
    }
    for text in ["orders", setup.cluster.issuer()] {
        let (before, after) = good.split_once(text).unwrap();
        for bytes in [&b"\xff"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"\x00", b"\n"] {
            let claims = [before.as_bytes(), text.as_bytes(), bytes, after.as_bytes()].concat();
            setup.check(claims, NEITHER).await;
        }
        setup.check(good.replacen(text, &format!("{text}\\ud800"), 1), NEITHER).await;
    }
    // White space between JSON tokens is insignificant.
    setup.check(format!(" \r\n\t{good} "), BOTH).await;
}
