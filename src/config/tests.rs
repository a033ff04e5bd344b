//! The schema, and what reaches the builders.

use std::{borrow::Cow, convert::Infallible, fmt, fs, path::Path, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde_json::{Value, json};
use tower::service_fn;

use super::{
    auth_config::{AuthConfig, Fields},
    jwks::JwksConfig,
    subject_access_review::SubjectAccessReviewConfig,
    value::{DurationValue, KeyText, ListValue},
};
use crate::{
    api_server::ApiServer,
    authenticator::{Authenticator, AuthenticatorBuilder},
    authorizer::{SubjectAccessReviewAuthorizer, SubjectAccessReviewBuilder},
    verifier::{
        DynVerifier,
        jwks::{Algorithm, JwksBuilder, JwksVerifier},
        token_review::TokenReviewVerifier,
    },
};

impl JsonSchema for DurationValue {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A duration with its unit, such as `60s` or `1h 30m`.",
            "type": "string",
        })
    }
}

impl JsonSchema for ListValue {
    fn schema_name() -> Cow<'static, str> {
        "List".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A list, or one text with commas between the entries.",
            "oneOf": [
                { "type": "string", "minLength": 1 },
                {
                    "type": "array",
                    "items": { "type": "string", "minLength": 1 },
                    "minItems": 1,
                    "uniqueItems": true,
                },
            ],
        })
    }
}

/// Rewrites the file when `UPDATE_SCHEMA` is set.
#[test]
fn the_committed_schema_is_that_of_the_types() {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let schema = generator.into_root_schema_for::<Fields>();
    let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        let file = "src/config/auth_config.schema.json";
        fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(file), &text).unwrap();
    }
    assert!(AuthConfig::JSON_SCHEMA == text, "run this test with UPDATE_SCHEMA=1 and commit");
}

#[test]
fn the_guide_names_every_field() {
    let guide = include_str!("../../docs/configuration.md");
    let schema: Value = serde_json::from_str(AuthConfig::JSON_SCHEMA).unwrap();
    let mut definitions: Vec<_> = schema["$defs"].as_object().unwrap().values().collect();
    definitions.push(&schema);
    let properties = definitions.iter().filter_map(|definition| definition.get("properties"));
    let names: Vec<_> = properties.flat_map(|fields| fields.as_object().unwrap().keys()).collect();
    assert!(names.len() > 25, "{names:?}");
    for name in names {
        assert!(guide.contains(&format!("`{name}`")), "docs/configuration.md lacks {name}");
    }
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// An API server that is not called.
fn api_server() -> ApiServer {
    ApiServer::from_service(service_fn(async |_: Request<Bytes>| {
        Ok::<_, Infallible>(Response::<Full<Bytes>>::default())
    }))
}

/// A verifier that is not called.
fn verifier() -> DynVerifier {
    DynVerifier::new(TokenReviewVerifier::new(api_server()))
}

fn built(options: Value) -> AuthenticatorBuilder {
    let mut config = json!({ "audiences": [{ "name": "a", "rule": { "allow_list": "s/c" } }] });
    config.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let fields: Fields = serde_json::from_value(config).unwrap();
    fields.authenticator(verifier())
}

fn default_builder() -> AuthenticatorBuilder {
    Authenticator::builder(verifier()).audience("a")
}

/// `Debug` shows all fields of the builder.
fn assert_same<B: fmt::Debug>(config: &B, code: &B) {
    assert_eq!(format!("{config:?}"), format!("{code:?}"));
}

#[test]
fn without_options_the_builders_defaults_stay() {
    assert_same(&built(json!({})), &default_builder());
}

#[test]
fn each_option_of_the_authenticator_reaches_its_builder() {
    type Set = fn(AuthenticatorBuilder) -> AuthenticatorBuilder;
    let cases: [(&str, Value, Set); 11] = [
        ("issuer", json!("https://a, b"), |builder| builder.issuer("https://a").issuer("b")),
        ("cache_ttl", json!("1h"), |builder| builder.cache_ttl(seconds(3600))),
        ("reject_ttl", json!("1s"), |builder| builder.reject_ttl(seconds(1))),
        ("serve_stale", json!("1m 30s"), |builder| builder.serve_stale(seconds(90))),
        ("cache_capacity", json!(7), |builder| builder.cache_capacity(7)),
        ("reject_capacity", json!(7), |builder| builder.reject_capacity(7)),
        ("max_in_flight", json!(7), |builder| builder.max_in_flight(7)),
        ("max_wait", json!("0s"), |builder| builder.max_wait(Duration::ZERO)),
        ("verification_timeout", json!("3s"), |builder| builder.verification_timeout(seconds(3))),
        ("max_token_length", json!(4096), |builder| builder.max_token_length(4096)),
        ("realm", json!("orders"), |builder| builder.realm("orders")),
    ];
    for (name, value, set) in cases {
        let config = built(json!({ name: value }));
        assert_same(&config, &set(default_builder()));
        assert_ne!(format!("{config:?}"), format!("{:?}", default_builder()), "{name}");
    }
}

#[test]
fn each_option_of_the_jwks_verifier_reaches_its_builder() {
    type Set = fn(JwksBuilder) -> JwksBuilder;
    let cases: [(&str, Value, Set); 9] = [
        ("issuer", json!("https://a, b"), |builder| builder.issuer("https://a").issuer("b")),
        ("algorithms", json!(["ES384"]), |builder| builder.algorithms([Algorithm::ES384])),
        ("leeway", json!("7s"), |builder| builder.leeway(seconds(7))),
        ("max_token_lifetime", json!("7s"), |builder| builder.max_token_lifetime(seconds(7))),
        ("refresh_interval", json!("7s"), |builder| builder.refresh_interval(seconds(7))),
        ("unknown_key_cooldown", json!("7s"), |builder| builder.unknown_key_cooldown(seconds(7))),
        ("max_key_age", json!("7s"), |builder| builder.max_key_age(seconds(7))),
        ("fetch_timeout", json!("7s"), |builder| builder.fetch_timeout(seconds(7))),
        ("api_server_audience", json!("a"), |builder| builder.api_server_audience("a")),
    ];
    let default_builder = || JwksVerifier::in_cluster(api_server());
    let built = |options| {
        let config: JwksConfig = serde_json::from_value(options).unwrap();
        config.builder(&api_server()).unwrap()
    };
    assert_same(&built(json!({})), &default_builder());
    for (name, value, set) in cases {
        let config = built(json!({ name: value }));
        assert_same(&config, &set(default_builder()));
        assert_ne!(format!("{config:?}"), format!("{:?}", default_builder()), "{name}");
    }
    let legacy = built(json!({ "dangerous_accept_legacy_tokens": true }));
    assert_same(&legacy, &default_builder().dangerous_accept_legacy_tokens());
}

#[test]
fn each_option_of_a_review_rule_reaches_its_builder() {
    type Set = fn(SubjectAccessReviewBuilder) -> SubjectAccessReviewBuilder;
    let cases: [(&str, Value, Set); 5] = [
        ("allowed_ttl", json!("7s"), |builder| builder.allowed_ttl(seconds(7))),
        ("denied_ttl", json!("7s"), |builder| builder.denied_ttl(seconds(7))),
        ("cache_capacity", json!(7), |builder| builder.cache_capacity(7)),
        ("max_in_flight", json!(7), |builder| builder.max_in_flight(7)),
        ("timeout", json!("7s"), |builder| builder.timeout(seconds(7))),
    ];
    let default_builder = || SubjectAccessReviewAuthorizer::builder(api_server());
    let built = |options| {
        let config: SubjectAccessReviewConfig = serde_json::from_value(options).unwrap();
        config.builder("", &api_server()).unwrap()
    };
    assert_same(&built(json!({})), &default_builder());
    for (name, value, set) in cases {
        let config = built(json!({ name: value }));
        assert_same(&config, &set(default_builder()));
        assert_ne!(format!("{config:?}"), format!("{:?}", default_builder()), "{name}");
    }
}

#[test]
fn debug_does_not_show_the_text_of_keys() {
    let key: KeyText = serde_json::from_value(json!("-----BEGIN PRIVATE KEY-----")).unwrap();
    assert_eq!(format!("{key:?}"), "[27 bytes]");
}
