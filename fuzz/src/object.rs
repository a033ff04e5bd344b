//! JSON for the oracles: it keeps the order of the members and notices duplicates.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// A JSON object. Values are parsed on access, so junk in unused ones does not matter.
pub struct Object(Vec<(String, Box<RawValue>)>);

/// A duplicate member, or one of an unexpected type.
pub struct Unusable;

type Member<T> = Result<Option<T>, Unusable>;

impl Object {
    /// Replaces invalid UTF-8, as Go does; see [`is_text`].
    pub fn read(json: &[u8]) -> Option<Self> {
        serde_json::from_str(&String::from_utf8_lossy(json)).ok()
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(own, _)| own == name)
    }

    /// Returns `None` if the member is absent or `null`.
    pub fn raw(&self, name: &str) -> Member<&str> {
        let mut found = self.0.iter().filter(|(own, _)| own == name).map(|(_, value)| value.get());
        match (found.next(), found.next()) {
            (_, Some(_)) => Err(Unusable),
            (None | Some("null"), None) => Ok(None),
            (value, None) => Ok(value),
        }
    }

    pub fn text(&self, name: &str) -> Member<String> {
        self.get(name)
    }

    pub fn number(&self, name: &str) -> Member<f64> {
        self.get(name)
    }

    pub fn flag(&self, name: &str) -> Member<bool> {
        self.get(name)
    }

    pub fn list(&self, name: &str) -> Member<Vec<String>> {
        self.get(name)
    }

    pub fn object(&self, name: &str) -> Member<Object> {
        self.get(name)
    }

    /// Returns `aud`: one string or a list of strings.
    pub fn audiences(&self) -> Member<Vec<String>> {
        match self.text("aud") {
            Ok(one) => Ok(one.map(|one| vec![one])),
            Err(Unusable) => self.list("aud"),
        }
    }

    fn get<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Member<T> {
        self.raw(name)?.map(|raw| serde_json::from_str(raw).map_err(|_| Unusable)).transpose()
    }
}

/// Returns whether the input is valid UTF-8 text. Otherwise rejecting what the oracle accepts is
/// also correct.
pub fn is_text(json: &[u8]) -> bool {
    std::str::from_utf8(json).is_ok()
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Object(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}
