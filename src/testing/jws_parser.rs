//! Parser for compact JWS and its JSON, as strict and as lenient as Go and go-jose.

use std::{borrow::Cow, fmt};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

pub(super) struct Jws {
    pub(super) alg: String,
    pub(super) kid: String,
    pub(super) has_crit: bool,
    pub(super) payload: Vec<u8>,
    /// The signing input.
    pub(super) signed: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

impl Jws {
    /// Parses a token. `ignore_whitespace`: go-jose before version 4 removes all white space first.
    pub(super) fn parse(token: &str, ignore_whitespace: bool) -> Option<Self> {
        let token: String = token
            .chars()
            .filter(|character| !(ignore_whitespace && character.is_ascii_whitespace()))
            .collect();
        let [header, payload, signature] = split_parts(&token)?;
        let signed = format!("{header}.{payload}").into_bytes();
        let header = strict_json(&decode(header)?).filter(Value::is_object)?;
        let name = |key: &str| match header.get(key) {
            None | Some(Value::Null) => Some(String::new()),
            Some(value) => value.as_str().map(str::to_owned),
        };
        // go-jose also parses these members, used or not, and rejects the token if one is
        // malformed.
        name("nonce")?;
        let given = |key: &str| header.get(key).filter(|value| !value.is_null());
        if given("jwk").is_some_and(|jwk| jwk.get("kty").is_none_or(|kty| !kty.is_string()))
            || given("x5c").is_some_and(|chain| !is_certificate_chain(chain))
        {
            return None;
        }
        Some(Self {
            alg: name("alg")?,
            kid: name("kid")?,
            has_crit: given("crit")
                .is_some_and(|crit| crit.as_array().is_none_or(|crit| !crit.is_empty())),
            payload: decode(payload)?,
            signed,
            signature: decode(signature)?,
        })
    }
}

/// Returns whether each item is base64 of a DER sequence, an approximation of a certificate.
fn is_certificate_chain(chain: &Value) -> bool {
    let der = |one: &Value| {
        one.as_str().and_then(decode_standard).is_some_and(|der| der.first() == Some(&0x30))
    };
    chain.as_array().is_some_and(|chain| chain.iter().all(der))
}

/// Returns the `iss` of a token whose signature is not verified yet.
pub(super) fn unverified_issuer(token: &str) -> Option<String> {
    let [_, payload, _] = split_parts(token)?;
    let claims: Value = serde_json::from_str(&text(&decode(payload)?)).ok()?;
    claims.get("iss")?.as_str().map(str::to_owned)
}

/// Parses JSON and rejects the duplicate keys that go-jose rejects: those of the outermost object
/// and of everything in the private claim. serde_json alone takes the last one.
pub(super) fn strict_json(bytes: &[u8]) -> Option<Value> {
    let text = text(bytes);
    let mut deserializer = serde_json::Deserializer::from_str(&text);
    let value = Strict { nested: false }.deserialize(&mut deserializer).ok()?;
    deserializer.end().ok().map(|()| value)
}

/// Replaces invalid UTF-8, as Go does when it reads JSON.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// Decodes base64 with padding, as in Secrets.
pub(super) fn decode_standard(text: &str) -> Option<Vec<u8>> {
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

fn split_parts(token: &str) -> Option<[&str; 3]> {
    let parts: Vec<&str> = token.split('.').collect();
    parts.try_into().ok()
}

/// Decodes like Go's `base64.RawURLEncoding`: no padding, but any trailing bits and line ends
/// anywhere.
fn decode(part: &str) -> Option<Vec<u8>> {
    const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone);
    const GO: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);
    let part: String = part.chars().filter(|character| !matches!(character, '\r' | '\n')).collect();
    GO.decode(part).ok()
}

/// Deserializes an object without duplicate keys; its values may have some.
#[derive(Clone, Copy)]
struct Strict {
    /// Whether nested objects must not have duplicates either.
    nested: bool,
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate keys")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = if self.nested || key == "kubernetes.io" {
                map.next_value_seed(Self { nested: true })?
            } else {
                map.next_value()?
            };
            if object.insert(key, value).is_some() {
                return Err(A::Error::custom("duplicate key"));
            }
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailing_bits_of_base64_are_ignored_as_in_go() {
        assert_eq!(decode("AA"), Some(vec![0]));
        assert_eq!(decode("AP"), Some(vec![0]));
        assert_eq!(decode("AA=="), None);
        assert_eq!(decode("A+"), None);
    }

    #[test]
    fn duplicate_keys_are_rejected_where_go_jose_rejects_them() {
        assert!(strict_json(br#"{"a":[1,-2,0.5,null,true,"x",{"b":{}}]}"#).is_some());
        assert!(strict_json(br#"{"a":1,"a":2}"#).is_none());
        assert!(strict_json(br#"{"kubernetes.io":{"pod":{"name":"a","name":"b"}}}"#).is_none());
        assert!(strict_json(br#"{"whatever":{"b":1,"b":1}}"#).is_some());
        assert!(strict_json(b"{} x").is_none());
        assert!(strict_json(b"{\"a\":\"\xff\"}").is_some());
    }

    #[test]
    fn only_the_compact_serialization_is_a_token() {
        assert_eq!(unverified_issuer("a.b"), None);
        assert_eq!(unverified_issuer(r#"{"payload":"eyJpc3MiOiJ4In0","iss.x.":"y"}"#), None);
        assert_eq!(unverified_issuer("e30.eyJpc3MiOiJ4In0.AA"), Some("x".to_owned()));
    }
}
