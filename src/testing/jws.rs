//! Compact JWS and its JSON, read with the strictness (and the leniency) of Go and go-jose.

use std::fmt;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

pub(super) struct Jws {
    pub(super) alg: String,
    pub(super) kid: String,
    pub(super) has_crit: bool,
    pub(super) payload: Vec<u8>,
    /// What the signature is over.
    pub(super) signed: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

impl Jws {
    pub(super) fn parse(token: &str) -> Option<Self> {
        let [header, payload, signature] = three(token)?;
        let signed = format!("{header}.{payload}").into_bytes();
        let header = strict_json(&decode(header)?).filter(Value::is_object)?;
        let name = |key: &str| match header.get(key) {
            None | Some(Value::Null) => Some(String::new()),
            Some(value) => value.as_str().map(str::to_owned),
        };
        Some(Self {
            alg: name("alg")?,
            kid: name("kid")?,
            has_crit: header.get("crit").and_then(Value::as_array).is_some_and(|crit| !crit.is_empty()),
            payload: decode(payload)?,
            signed,
            signature: decode(signature)?,
        })
    }
}

/// What the token itself says about its issuer, before any key has been asked.
pub(super) fn unverified_issuer(token: &str) -> Option<String> {
    let [_, payload, _] = three(token)?;
    let claims: Value = serde_json::from_slice(&decode(payload)?).ok()?;
    claims.get("iss")?.as_str().map(str::to_owned)
}

/// go-jose refuses a key that occurs twice in an object; serde_json would take the last one.
pub(super) fn strict_json(bytes: &[u8]) -> Option<Value> {
    serde_json::from_slice::<Strict>(bytes).ok().map(|strict| strict.0)
}

/// Kubernetes stores Secrets in base64 with padding.
pub(super) fn decode_standard(text: &str) -> Option<Vec<u8>> {
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

fn three(token: &str) -> Option<[&str; 3]> {
    let parts: Vec<&str> = token.split('.').collect();
    parts.try_into().ok()
}

/// Go's `base64.RawURLEncoding`: no padding, but any value in the bits that are left over, and line ends anywhere.
fn decode(part: &str) -> Option<Vec<u8>> {
    const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone);
    const GO: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);
    let part: String = part.chars().filter(|character| !matches!(character, '\r' | '\n')).collect();
    GO.decode(part).ok()
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
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
        while let Some(Strict(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(items.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((key, Strict(value))) = map.next_entry::<String, Strict>()? {
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
    fn go_ignores_the_bits_that_are_left_over() {
        assert_eq!(decode("AA"), Some(vec![0]));
        assert_eq!(decode("AP"), Some(vec![0]));
        assert_eq!(decode("AA=="), None);
        assert_eq!(decode("A+"), None);
    }

    #[test]
    fn a_key_that_occurs_twice_is_refused_at_any_depth() {
        assert!(strict_json(br#"{"a":[1,-2,0.5,null,true,"x",{"b":{}}]}"#).is_some());
        assert!(strict_json(br#"{"a":1,"a":2}"#).is_none());
        assert!(strict_json(br#"{"a":[{"b":1,"b":1}]}"#).is_none());
        assert!(strict_json(b"{} x").is_none());
    }

    #[test]
    fn only_the_compact_form_is_a_token() {
        assert_eq!(unverified_issuer("a.b"), None);
        assert_eq!(unverified_issuer(r#"{"payload":"eyJpc3MiOiJ4In0","iss.x.":"y"}"#), None);
        assert_eq!(unverified_issuer("e30.eyJpc3MiOiJ4In0.AA"), Some("x".to_owned()));
    }
}
