//! Configurations that are errors, each of which names the field's path.

use serde_json::{Value, json};

use super::{build, read};

const GOOD_RULE: &str = "shop/checkout";

/// Returns a good configuration with these fields.
fn with(fields: Value) -> Value {
    let mut config = json!({
        "audiences": [{ "name": "orders", "rule": { "allow_list": [GOOD_RULE] } }],
    });
    config.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    config
}

fn with_rule(rule: Value) -> Value {
    json!({ "audiences": [{ "name": "orders", "rule": rule }] })
}

fn with_review(review: Value) -> Value {
    with_rule(json!({ "subject_access_review": review }))
}

fn with_jwks(jwks: Value) -> Value {
    with(json!({ "verifier": { "kind": "jwks", "jwks": jwks } }))
}

#[test]
fn a_form_that_is_wrong_is_an_error_of_the_format() {
    let duration = "expected a duration with its unit, such as \"60s\" or \"1h 30m\"";
    let not_a_duration = |text| format!("cache_ttl: invalid value: string \"{text}\", {duration}");
    let list = "expected a list, or one text with commas between the entries";
    let options = "expected one of `audiences`, `api_server_audience`, `verifier`, `issuer`, `cache_ttl`, `reject_ttl`, \
                   `serve_stale`, `cache_capacity`, `reject_capacity`, `max_in_flight`, \
                   `max_wait`, `verification_timeout`, `max_token_length`, `realm`";
    let cases: Vec<(Value, String)> = vec![
        (
            json!({ "audiences": [{ "name": "orders" }] }),
            "audiences[0]: missing field `rule`".into(),
        ),
        (
            json!({ "audiences": [{ "rule": { "any_authenticated": true } }] }),
            "audiences[0]: missing field `name`".into(),
        ),
        (
            with(json!({ "cache_tll": "60s" })),
            format!("cache_tll: unknown field `cache_tll`, {options}"),
        ),
        (
            with_rule(json!({ "allowlist": ["shop/checkout"] })),
            "audiences[0].rule.allowlist: unknown field `allowlist`, expected \
             one of `any_authenticated`, `allow_list`, `subject_access_review`"
                .into(),
        ),
        (
            with_rule(json!({ "allow_list": [] })),
            "audiences[0].rule.allow_list: the list is empty: add an entry, or drop the field"
                .into(),
        ),
        (
            with_rule(json!({ "allow_list": " " })),
            "audiences[0].rule.allow_list: the list is empty: add an entry, or drop the field"
                .into(),
        ),
        (
            with_rule(json!({ "allow_list": "shop/checkout,,ops/*" })),
            "audiences[0].rule.allow_list: the list has an empty entry: is an environment \
             variable unset?"
                .into(),
        ),
        (
            with_rule(json!({ "allow_list": ["shop/checkout", "shop/checkout"] })),
            "audiences[0].rule.allow_list: \"shop/checkout\" is listed twice: drop one".into(),
        ),
        (
            with_rule(json!({ "allow_list": ["shop/checkout", 5] })),
            "audiences[0].rule.allow_list[1]: invalid type: integer `5`, expected a string".into(),
        ),
        (
            with_rule(json!({ "allow_list": true })),
            format!("audiences[0].rule.allow_list: invalid type: boolean `true`, {list}"),
        ),
        (
            with(json!({ "cache_ttl": 60 })),
            format!("cache_ttl: invalid type: integer `60`, {duration}"),
        ),
        (with(json!({ "cache_ttl": "60" })), not_a_duration("60")),
        (with(json!({ "cache_ttl": "-60s" })), not_a_duration("-60s")),
        (with(json!({ "cache_ttl": "60s ago" })), not_a_duration("60s ago")),
        (with(json!({ "cache_ttl": "5 parsecs" })), not_a_duration("5 parsecs")),
        (with(json!({ "cache_ttl": "9999999999999999h" })), not_a_duration("9999999999999999h")),
        (
            with(json!({ "cache_capacity": -1 })),
            "cache_capacity: invalid value: integer `-1`, expected u64".into(),
        ),
        (
            with(json!({ "verifier": "jwks" })),
            "verifier: invalid type: string \"jwks\", expected struct VerifierConfig".into(),
        ),
        (
            with(json!({ "verifier": { "kind": "oidc" } })),
            "verifier.kind: unknown variant `oidc`, expected `token_review` or `jwks`".into(),
        ),
        (
            with(json!({ "verifier": { "screened_by": "token_review" } })),
            "verifier.screened_by: unknown variant `token_review`, expected `jwks`".into(),
        ),
    ];
    for (config, expected) in cases {
        assert_eq!(read(config).unwrap_err().to_string(), expected);
    }
}

#[tokio::test]
async fn a_meaning_that_is_wrong_is_an_error_of_build() {
    let rule = json!({ "any_authenticated": true });
    let cases = [
        (
            json!({}),
            "audiences: is missing: add the name that callers request their token for, with its \
             rule",
        ),
        (
            with(json!({ "api_server_audience": rule })),
            "api_server_audience: contradicts audiences: keep one of them",
        ),
        (
            json!({ "api_server_audience": rule, "verifier": { "kind": "jwks" } }),
            "api_server_audience: api_server_audience() needs a verifier that supports it: ",
        ),
        (
            json!({ "api_server_audience": {} }),
            "api_server_audience: allows nobody: set one of allow_list, subject_access_review and \
             any_authenticated",
        ),
        (
            with_review(json!({
                "resource": { "verb": "get", "resource": "orders" },
                "non_resource": { "verb": "get", "path": "/" },
            })),
            "audiences[0].rule.subject_access_review: resource and non_resource contradict each \
             other: keep one of them",
        ),
        (
            with_review(json!({ "resource": { "verb": "", "resource": "orders" } })),
            "audiences[0].rule.subject_access_review.resource.verb: ",
        ),
        (
            with_review(json!({ "non_resource": { "verb": "get", "path": "" } })),
            "audiences[0].rule.subject_access_review.non_resource.path: ",
        ),
        (
            with_review(json!({ "allowed_ttl": "2h" })),
            "audiences[0].rule.subject_access_review.allowed_ttl: ",
        ),
        (
            with_review(json!({ "max_in_flight": 1 })),
            "audiences[0].rule.subject_access_review.max_in_flight: ",
        ),
        (
            with_review(json!({ "timeout": "0s" })),
            "audiences[0].rule.subject_access_review.timeout: ",
        ),
        (with_jwks(json!({ "max_key_age": "1s" })), "verifier.jwks.max_key_age: "),
        (
            json!({ "audiences": [] }),
            "audiences: is empty: add the name that callers request their token for, with its rule",
        ),
        (
            json!({ "audiences": [{ "name": "orders", "rule": rule }, { "name": "", "rule": rule }] }),
            "audiences[1].name: an audience is the empty string: is an environment variable unset?",
        ),
        (
            json!({ "audiences": [{ "name": "orders", "rule": rule }, { "name": "orders", "rule": rule }] }),
            "audiences[1].name: \"orders\" is also the name of audiences[0]: drop one",
        ),
        (
            with_rule(json!({})),
            "audiences[0].rule: allows nobody: set one of allow_list, subject_access_review and \
             any_authenticated",
        ),
        (
            with_rule(json!({ "any_authenticated": false })),
            "audiences[0].rule: allows nobody: set one of allow_list, subject_access_review and \
             any_authenticated",
        ),
        (
            with_rule(json!({ "any_authenticated": true, "allow_list": [GOOD_RULE] })),
            "audiences[0].rule: has more than one of allow_list, subject_access_review and \
             any_authenticated: keep one",
        ),
        (
            with_rule(json!({ "allow_list": [GOOD_RULE, "shop"] })),
            "audiences[0].rule.allow_list[1]: the allow-list's entry \"shop\" is none of \
             \"namespace/name\", \"namespace/*\", \"group:NAME\" and \
             \"system:serviceaccount:namespace:name\"",
        ),
        (
            with(json!({ "verifier": { "jwks": {} } })),
            "verifier.jwks: has no effect: name jwks as the kind, in screened_by, or in \
             or_when_unavailable, or drop it",
        ),
        (
            with(json!({ "verifier": { "kind": "jwks", "token_review": {} } })),
            "verifier.token_review: is only for token_review",
        ),
        (
            with(json!({ "verifier": { "kind": "jwks", "screened_by": "jwks" } })),
            "verifier.screened_by: is only for token_review",
        ),
        (
            with(json!({ "verifier": { "token_review": { "timeout": "0s" } } })),
            "verifier.token_review.timeout: is 0, so no token could be verified: set a positive \
             duration",
        ),
        (
            with_jwks(json!({ "discover": "https://a", "from_pem": "x" })),
            "verifier.jwks: discover and from_pem contradict each other: keep one of them",
        ),
        (
            with_jwks(json!({ "discover": "http://a" })),
            "verifier.jwks.discover: the issuer \"http://a\" is not an https URL",
        ),
        (
            with_jwks(json!({ "root_certificate": "x" })),
            "verifier.jwks.root_certificate: has no effect without discover: drop it, or set \
             discover",
        ),
        (
            with_jwks(json!({ "from_jwks": "{}" })),
            "verifier.jwks.issuer: no issuer is set: call issuer(\"…\") with the `iss` of the \
             tokens that these keys sign, which is the API server's --service-account-issuer",
        ),
        (
            with_jwks(json!({ "from_pem": "x", "issuer": "a" })),
            "verifier.jwks.from_pem: the given keys cannot be used: ",
        ),
        (
            with_jwks(json!({ "from_jwks_file": "/nowhere/jwks.json", "issuer": "a" })),
            "verifier.jwks.from_jwks_file: the file of keys /nowhere/jwks.json cannot be read: No \
             such file or directory (os error 2)",
        ),
        (
            with_jwks(json!({ "algorithms": ["RS256", "HS256"] })),
            "verifier.jwks.algorithms[1]: \"HS256\" is no known algorithm: use one of RS256, \
             RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA",
        ),
        (
            with_jwks(json!({ "leeway": "10m" })),
            "verifier.jwks.leeway: leeway is 600s: an expired token would be accepted for that \
             long; the limit is 300s",
        ),
        (
            with_jwks(json!({ "refresh_interval": "0s" })),
            "verifier.jwks.refresh_interval: refresh_interval is 0: set a positive duration",
        ),
        (
            with(json!({ "cache_ttl": "2h" })),
            "cache_ttl: cache_ttl is 7200s: a revoked token could be served for that long; the \
             limit is 3600s",
        ),
        (
            with(json!({ "cache_ttl": "0s", "serve_stale": "1m" })),
            "serve_stale: serve_stale() needs a cache, but cache_ttl is zero: set a positive \
             cache_ttl, or drop serve_stale()",
        ),
        (
            with(json!({ "cache_capacity": 0 })),
            "cache_capacity: cache_capacity is 0: set a positive number, or set the matching TTL \
             to zero to turn that cache off",
        ),
        (
            with(json!({ "max_in_flight": 1 })),
            "max_in_flight: max_in_flight must be at least 2, because one permit is reserved for \
             tokens that were accepted before",
        ),
        (
            with(json!({ "max_wait": "20s" })),
            "max_wait: max_wait must be shorter than verification_timeout, which would end it \
             first",
        ),
        (
            with(json!({ "realm": "a\"b" })),
            "realm: the realm \"a\\\"b\" cannot be used in a WWW-Authenticate header: use visible \
             ASCII and spaces without '\"' and '\\'",
        ),
    ];
    for (config, expected) in cases {
        let error = build(config).await.err().unwrap();
        let is_whole = !expected.ends_with(": ");
        let message = error.to_string();
        assert!(message == expected || (!is_whole && message.starts_with(expected)), "{message}");
        assert!(expected.starts_with(&format!("{}: ", error.path())));
    }
}
