//! Configurations in YAML, TOML and JSON.

use proptest::{collection::vec, prelude::*, sample::Index};
use serde::Deserialize;
use serde_json::{Value, json};
use tower_kube_auth::config::AuthConfig;

use super::{api_server, build, read};

/// What a service embeds it in.
#[derive(Deserialize)]
struct ServiceConfig {
    auth: AuthConfig,
}

const YAML: [&str; 3] = [
    r#"
auth:
  audiences:
    - name: orders
      rule: { allow_list: [shop/checkout] }
"#,
    r#"
auth:
  audiences:
    - name: orders
      rule:
        allow_list:
          - shop/checkout
          - "ops/*"
          - group:system:serviceaccounts:infra
    - name: https://orders.example.org
      rule: { any_authenticated: true }
  verifier:
    screened_by: jwks
    or_when_unavailable: jwks
    token_review: { timeout: 2s }
    jwks:
      algorithms: [RS256, ES384]
      refresh_interval: 1m
  cache_ttl: 30s
  reject_ttl: 500ms
  serve_stale: 1h 30m
  cache_capacity: 100
  max_in_flight: 8
  realm: orders
"#,
    r#"
auth:
  audiences: [{ name: orders, rule: { allow_list: "shop/checkout, ops/*", any_authenticated: false } }]
  verifier:
    kind: jwks
    jwks: { issuer: "https://a.example.org, https://b.example.org", leeway: 0s }
  issuer: https://a.example.org
  cache_ttl:
"#,
];

const TOML: [&str; 3] = [
    r#"
[[auth.audiences]]
name = "orders"
rule.allow_list = ["shop/checkout"]
"#,
    r#"
[auth]
cache_ttl = "30s"
reject_ttl = "500ms"
serve_stale = "1h 30m"
cache_capacity = 100
max_in_flight = 8
realm = "orders"

[[auth.audiences]]
name = "orders"
rule.allow_list = ["shop/checkout", "ops/*", "group:system:serviceaccounts:infra"]

[[auth.audiences]]
name = "https://orders.example.org"
rule.any_authenticated = true

[auth.verifier]
screened_by = "jwks"
or_when_unavailable = "jwks"
token_review.timeout = "2s"

[auth.verifier.jwks]
algorithms = ["RS256", "ES384"]
refresh_interval = "1m"
"#,
    r#"
[auth]
issuer = "https://a.example.org"
audiences = [{ name = "orders", rule = { allow_list = "shop/checkout, ops/*" } }]
verifier.kind = "jwks"
verifier.jwks = { issuer = "https://a.example.org, https://b.example.org", leeway = "0s" }
"#,
];

fn good_json() -> [Value; 3] {
    [
        json!({ "audiences": [{ "name": "orders", "rule": { "allow_list": ["shop/checkout"] } }] }),
        json!({
            "audiences": [
                {
                    "name": "orders",
                    "rule": { "allow_list": [
                        "shop/checkout",
                        "ops/*",
                        "group:system:serviceaccounts:infra",
                    ] },
                },
                { "name": "https://orders.example.org", "rule": { "any_authenticated": true } },
            ],
            "verifier": {
                "screened_by": "jwks",
                "or_when_unavailable": "jwks",
                "token_review": { "timeout": "2s" },
                "jwks": { "algorithms": ["RS256", "ES384"], "refresh_interval": "1m" },
            },
            "cache_ttl": "30s",
            "reject_ttl": "500ms",
            "serve_stale": "1h 30m",
            "cache_capacity": 100,
            "max_in_flight": 8,
            "realm": "orders",
        }),
        json!({
            "audiences": [{
                "name": "orders",
                "rule": { "allow_list": "shop/checkout, ops/*", "any_authenticated": false },
            }],
            "verifier": {
                "kind": "jwks",
                "jwks": { "issuer": ["https://a.example.org", "https://b.example.org"], "leeway": "0s" },
            },
            "issuer": ["https://a.example.org"],
            "cache_ttl": null,
        }),
    ]
}

/// `Debug` shows all fields.
fn shown(config: &AuthConfig) -> String {
    format!("{config:?}")
}

#[tokio::test]
async fn yaml_toml_and_json_mean_the_same() {
    for (index, json) in good_json().into_iter().enumerate() {
        let expected = shown(&read(json.clone()).unwrap());
        let yaml: ServiceConfig = serde_saphyr::from_str(YAML[index]).unwrap();
        assert_eq!(shown(&yaml.auth), expected);
        let toml: ServiceConfig = toml::from_str(TOML[index]).unwrap();
        assert_eq!(shown(&toml.auth), expected);
        let text: AuthConfig = serde_json::from_str(&json.to_string()).unwrap();
        assert_eq!(shown(&text), expected);
        build(json).await.unwrap();
    }
}

#[test]
fn each_format_names_the_path_of_a_wrong_field() {
    let yaml = YAML[1].replace("refresh_interval: 1m", "refresh_intervall: 1m");
    let error = serde_saphyr::from_str::<ServiceConfig>(&yaml).err().unwrap().to_string();
    assert!(error.contains("verifier.jwks.refresh_intervall: unknown field"), "{error}");

    let toml = TOML[1].replace("refresh_interval =", "refresh_intervall =");
    let error = toml::from_str::<ServiceConfig>(&toml).err().unwrap().to_string();
    assert!(error.contains("verifier.jwks.refresh_intervall: unknown field"), "{error}");

    let json = good_json()[1].to_string().replace("refresh_interval", "refresh_intervall");
    let error = serde_json::from_str::<AuthConfig>(&json).unwrap_err().to_string();
    assert!(error.contains("verifier.jwks.refresh_intervall: unknown field"), "{error}");
}

/// A value that may stand anywhere, often one that a field takes.
fn value() -> impl Strategy<Value = Value> {
    let texts = ["", "60s", "0s", "-1s", "60", "1h 30m", "99999999999999h", "jwks", "token_review"];
    let entries = ["shop/checkout", "a,b", ",", "RS256", "none", "https://a", "orders", "\u{0}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0_u64..20).prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        proptest::sample::select([&texts[..], &entries[..]].concat()).prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((key(), inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    let names = [
        "audiences",
        "name",
        "rule",
        "allow_list",
        "any_authenticated",
        "verifier",
        "kind",
        "screened_by",
        "or_when_unavailable",
        "jwks",
        "issuer",
        "cache_ttl",
        "from_pem",
        "timeout",
    ];
    prop_oneof![proptest::sample::select(names.to_vec()).prop_map(str::to_owned), ".{0,8}"]
}

/// Puts `value` at the `place`th of all places in `config`.
fn replace(config: &mut Value, place: &mut usize, value: &Value) {
    if *place == 0 {
        *config = value.clone();
    }
    *place = place.wrapping_sub(1);
    match config {
        Value::Array(entries) => entries.iter_mut().for_each(|at| replace(at, place, value)),
        Value::Object(fields) => fields.values_mut().for_each(|at| replace(at, place, value)),
        _ => {}
    }
}

fn places(config: &Value) -> usize {
    1 + match config {
        Value::Array(entries) => entries.iter().map(places).sum(),
        Value::Object(fields) => fields.values().map(places).sum(),
        _ => 0,
    }
}

proptest! {
    #[test]
    fn no_value_panics(
        config in any::<Index>(),
        changes in vec((any::<Index>(), value()), 0..3),
    ) {
        let mut json = config.get(&good_json()).clone();
        for (place, value) in changes {
            let mut place = place.index(places(&json));
            replace(&mut json, &mut place, &value);
        }
        if let Ok(config) = read(json) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let _ = runtime.block_on(config.build(api_server()));
        }
    }
}
