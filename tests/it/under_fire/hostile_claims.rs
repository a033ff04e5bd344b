//! Claims that the issuer's own key signs and that are not a ServiceAccount's token all the same, before each verifier.

use std::time::UNIX_EPOCH;

use axum::http::StatusCode;
use serde_json::{Value, json};
use tower_kube_auth::{
    Authenticator, JwksVerifier, TokenReviewVerifier, Verifier,
    testing::{Algorithm, Cluster, ManualClock},
};

use crate::scripted::Service;

struct Scene {
    clock: ManualClock,
    cluster: Cluster,
    jwks: Service,
    review: Service,
}

impl Scene {
    async fn new() -> Self {
        crate::leaks::watch();
        let clock = ManualClock::new();
        let builder = Cluster::builder().clock(clock.clock()).signing_algorithm(Algorithm::ES256);
        let cluster = builder.start().await.unwrap();
        cluster.create_service_account("shop", "checkout");
        let client = cluster.kube_client().unwrap();
        let jwks = JwksVerifier::in_cluster(client.clone()).clock(clock.clock()).build().unwrap();
        let review = TokenReviewVerifier::new(client).clock(clock.clock());
        let (jwks, review) = (service(jwks, &clock), service(review, &clock));
        Self { clock, cluster, jwks, review }
    }

    fn now(&self) -> f64 {
        self.clock.clock().wall().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
    }

    fn claims(&self) -> Value {
        self.cluster.token("shop", "checkout").audience("orders").claims().unwrap()
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

    /// Whether a service lets the claims through: with its handler, or with 401 and a challenge, and not with it.
    async fn accepts(service: &Service, token: &str, what: &str) -> bool {
        let reached = service.reached();
        let answer = service.get(token).await;
        let accepted = answer.status == StatusCode::OK;
        assert_eq!(service.reached() - reached, usize::from(accepted), "{what}");
        if !accepted {
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{what}");
            assert!(answer.challenge().unwrap().contains("error=\"invalid_token\""), "{what}");
        }
        accepted
    }

    async fn check(&self, claims: impl AsRef<[u8]>, [jwks, review]: [bool; 2]) {
        let what = String::from_utf8_lossy(claims.as_ref()).into_owned();
        let token = self.sign(claims.as_ref());
        assert_eq!(Self::accepts(&self.jwks, &token, &what).await, jwks, "by JWKS: {what}");
        assert_eq!(
            Self::accepts(&self.review, &token, &what).await,
            review,
            "by TokenReview: {what}"
        );
    }
}

fn service(verifier: impl Verifier, clock: &ManualClock) -> Service {
    let builder = Authenticator::builder(verifier).audience("orders").clock(clock.clock());
    Service::new(&builder.build().unwrap())
}

const BOTH: [bool; 2] = [true, true];
const NEITHER: [bool; 2] = [false, false];
/// Kubernetes accepts it, and offline we do not.
const ONLY_REVIEW: [bool; 2] = [false, true];

#[tokio::test]
async fn audiences_of_every_shape() {
    let scene = Scene::new().await;
    for audience in
        [json!("orders"), json!(["orders"]), json!(["x", "orders"]), json!(["orders", "orders"])]
    {
        scene.check(scene.with("aud", audience), BOTH).await;
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
        scene.check(scene.with("aud", audience), NEITHER).await;
    }
    scene.check(scene.without("aud"), NEITHER).await;
}

#[tokio::test]
async fn times_of_every_shape() {
    let scene = Scene::new().await;
    let now = scene.now();
    for (claim, time) in [
        ("exp", json!(now + 600.5)),
        ("exp", json!((now + 600.0).floor())),
        ("exp", json!(now - 50.5)),
        ("nbf", json!(now - 0.5)),
        ("iat", json!(now + 50.5)),
        ("iat", json!(0)),
    ] {
        scene.check(scene.with(claim, time), BOTH).await;
    }
    for time in [json!("4000000000"), json!([4e9]), json!({ "now": 1 }), json!(true), json!("soon")]
    {
        for claim in ["exp", "nbf", "iat"] {
            scene.check(scene.with(claim, time.clone()), NEITHER).await;
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
        scene.check(scene.with("exp", time), NEITHER).await;
    }
    for claim in ["nbf", "iat"] {
        scene.check(scene.with(claim, json!(now + 62.0)), NEITHER).await;
        scene.check(scene.with(claim, json!(i64::MAX / 2)), NEITHER).await;
    }
    let good = scene.claims().to_string();
    let expiry = scene.claims()["exp"].to_string();
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
        scene
            .check(
                good.replacen(&format!("\"exp\":{expiry}"), &format!("\"exp\":{text}"), 1),
                NEITHER,
            )
            .await;
    }
    // Kubernetes lets a token without an end pass.
    scene.check(scene.without("exp"), ONLY_REVIEW).await;
    scene.check(scene.with("exp", Value::Null), ONLY_REVIEW).await;
}

#[tokio::test]
async fn issuers_and_accounts_of_every_shape() {
    let scene = Scene::new().await;
    scene.check(scene.claims().to_string(), BOTH).await;
    let issuer = scene.cluster.issuer();
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
        scene.check(scene.with("iss", value), NEITHER).await;
    }
    scene.check(scene.without("iss"), NEITHER).await;

    // Kubernetes looks at the private claims only; offline both must say the same.
    for value in
        [json!("system:serviceaccount:kube-system:admin"), json!("system:masters"), json!("")]
    {
        scene.check(scene.with("sub", value), ONLY_REVIEW).await;
    }
    for value in [json!(1), json!(["system:serviceaccount:shop:checkout"])] {
        scene.check(scene.with("sub", value), NEITHER).await;
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
        scene.check(scene.with(&path, value), NEITHER).await;
    }
    for path in ["kubernetes.io", "/kubernetes.io/namespace", "/kubernetes.io/serviceaccount/uid"] {
        scene.check(scene.without(path), NEITHER).await;
    }
}

/// Whoever takes the first and whoever takes the last of two would not agree on whose token it is.
#[tokio::test]
async fn claims_given_twice_and_bytes_that_are_no_text() {
    let scene = Scene::new().await;
    let good = scene.claims().to_string();
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
            scene.check(good.replacen('{', &format!("{{\"{name}\":{value},"), 1), NEITHER).await;
            let last = format!("{},\"{name}\":{value}}}", &good[..good.len() - 1]);
            scene.check(last, NEITHER).await;
        }
    }
    for (inside, twice) in [
        ("\"namespace\":\"shop\"", "\"namespace\":\"kube-system\",\"namespace\":\"shop\""),
        ("\"name\":\"checkout\"", "\"name\":\"checkout\",\"name\":\"admin\""),
    ] {
        assert!(good.contains(inside), "{good}");
        scene.check(good.replacen(inside, twice, 1), NEITHER).await;
    }
    for text in ["orders", scene.cluster.issuer()] {
        let (before, after) = good.split_once(text).unwrap();
        for bytes in [&b"\xff"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"\x00", b"\n"] {
            let claims = [before.as_bytes(), text.as_bytes(), bytes, after.as_bytes()].concat();
            scene.check(claims, NEITHER).await;
        }
        scene.check(good.replacen(text, &format!("{text}\\ud800"), 1), NEITHER).await;
    }
    // And JSON's own white space changes nothing.
    scene.check(format!(" \r\n\t{good} "), BOTH).await;
}
