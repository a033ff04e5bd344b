//! Any bytes as a JWK Set.

use std::cell::LazyCell;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, value::RawValue};
use tower_kube_auth::{
    BearerToken, JwksVerifier, Verifier,
    clock::Clock,
    testing::{Algorithm, SigningKey},
    verdict::Verdict,
    verifier::jwks,
};

use crate::{
    ISSUER, audiences,
    fixtures::{FIXTURES, Token},
    object::Object,
};

/// Upper bound of the keys that are tried for a token without a key id.
const TRIED_WITHOUT_ID: usize = 16;

thread_local! {
    static CLOCK: LazyCell<Clock> = const { LazyCell::new(crate::clock) };
    /// Tokens of keys that no input contains.
    static STRANGERS: LazyCell<Vec<String>> = const { LazyCell::new(strangers) };
}

pub fn check(data: &[u8]) {
    let Ok(set) = std::str::from_utf8(data) else { return };
    let algorithms = [
        jwks::Algorithm::RS256,
        jwks::Algorithm::ES256,
        jwks::Algorithm::ES384,
        jwks::Algorithm::EdDSA,
    ];
    let builder = JwksVerifier::from_jwks(set).issuer(ISSUER).algorithms(algorithms);
    let verifier = builder.clock(CLOCK.with(|clock| Clock::clone(clock))).build();
    let keys = keys(data);
    for token in &FIXTURES.tokens {
        let is_accepted =
            verifier.as_ref().is_ok_and(|verifier| is_accepted(verifier, &token.token));
        assert!(
            !is_accepted || keys.iter().any(|key| may_verify(key, token)),
            "accepted without its key"
        );
        let key_is_there =
            keys.contains(&FIXTURES.keys[token.key]) && keys.len() <= TRIED_WITHOUT_ID;
        assert!(
            is_accepted || !key_is_there,
            "rejected, although its key is published: {:?}",
            verifier.as_ref().err()
        );
    }
    if let Ok(verifier) = verifier {
        STRANGERS.with(|strangers| {
            assert!(
                !strangers.iter().any(|token| is_accepted(&verifier, token)),
                "a token of another key is accepted"
            );
        });
    }
}

fn is_accepted(verifier: &JwksVerifier, token: &str) -> bool {
    let verdict = verifier.verify_now(BearerToken::parse(token).unwrap(), audiences());
    matches!(verdict, Some(Verdict::Accept(_)))
}

/// Returns valid claims signed by other keys, with and without the id of the known key.
fn strangers() -> Vec<String> {
    let claims = FIXTURES.tokens[0].token.split('.').nth(1).unwrap();
    let claims = URL_SAFE_NO_PAD.decode(claims).unwrap();
    let mut tokens = Vec::new();
    for (algorithm, known) in [Algorithm::RS256, Algorithm::ES256].into_iter().zip(&FIXTURES.keys) {
        let key = SigningKey::generate(algorithm).unwrap();
        let mut header = key.header();
        header["kid"] = known["kid"].clone();
        tokens.push(key.sign_bytes(algorithm.name(), header.to_string().as_bytes(), &claims));
        header.as_object_mut().unwrap().remove("kid");
        tokens.push(key.sign_bytes(algorithm.name(), header.to_string().as_bytes(), &claims));
    }
    tokens
}

/// Returns the objects in `keys`, none if it is not a list.
fn keys(data: &[u8]) -> Vec<Value> {
    let Some(Ok(Some(list))) =
        Object::read(data).map(|set| set.raw("keys").map(|keys| keys.map(str::to_owned)))
    else {
        return Vec::new();
    };
    let list: Vec<Box<RawValue>> = serde_json::from_str(&list).unwrap_or_default();
    let keys: Result<_, _> = list.iter().map(|key| serde_json::from_str(key.get())).collect();
    keys.unwrap_or_default()
}

/// Returns whether a key is the token's and allows verifying it.
fn may_verify(key: &Value, token: &Token) -> bool {
    let known = &FIXTURES.keys[token.key];
    let is_or_missing = |name: &str, wanted: &Value| key[name].is_null() || key[name] == *wanted;
    let numbers: &[&str] = if known["kty"] == "RSA" { &["n", "e"] } else { &["x", "y"] };
    key["kty"] == known["kty"]
        && numbers
            .iter()
            .all(|name| number(&key[*name]).is_some_and(|own| Some(own) == number(&known[*name])))
        && is_or_missing("alg", &known["alg"])
        && is_or_missing("use", &"sig".into())
        && (key["key_ops"].is_null()
            || key["key_ops"].as_array().is_some_and(|all| all.contains(&"verify".into())))
        && (!token.has_key_id || key["kid"] == known["kid"])
}

fn number(text: &Value) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(text.as_str()?).ok()?;
    Some(bytes.into_iter().skip_while(|byte| *byte == 0).collect())
}
