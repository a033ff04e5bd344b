//! JSON objects, read more strictly than serde's derived code does.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::error::Category;

/// A `T` that is read from a JSON object only. Derived code also takes a list of the fields'
/// values, and so sees claims that no other parser sees.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectOnly<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectOnly<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(ObjectOnly(PhantomData))
    }
}

/// For `#[serde(default, deserialize_with = "present")]`: returns whether the member exists,
/// whatever its value.
#[cfg(feature = "jwks")]
pub(crate) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// Where a document is not the expected JSON, without any of its content: serde_json's own messages
/// quote values, and an answer may echo a token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadError {
    category: Category,
    line: usize,
    column: usize,
}

impl From<serde_json::Error> for ReadError {
    fn from(error: serde_json::Error) -> Self {
        Self { category: error.classify(), line: error.line(), column: error.column() }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.category {
            Category::Syntax => "it is not JSON",
            Category::Data => "a value has the wrong type or is missing",
            Category::Eof => "it ends too early",
            Category::Io => "it could not be read",
        };
        write!(f, "{what}, at line {} column {}", self.line, self.column)
    }
}

impl std::error::Error for ReadError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Point {
        #[serde(default)]
        x: u32,
    }

    #[test]
    fn a_list_is_not_an_object() {
        assert_eq!(serde_json::from_str::<Object<Point>>(r#"{"x":1}"#).unwrap().0.x, 1);
        assert!(serde_json::from_str::<Point>("[1]").is_ok(), "derived code reads it");
        for json in ["[1]", "[]", "null", "\"x\"", "1", r#"{"x":1,"x":2}"#, "{} {}"] {
            assert!(serde_json::from_str::<Object<Point>>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn an_error_names_the_place_and_quotes_nothing() {
        let secret = r#"{"x":"a.secret.token"}"#;
        let error = serde_json::from_str::<Object<Point>>(secret).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("secret"), "what is guarded against: {error}");
        let error = ReadError::from(error);
        for text in [error.to_string(), format!("{error:?}")] {
            assert!(!text.contains("secret"), "{text}");
        }
        assert_eq!(
            error.to_string(),
            "a value has the wrong type or is missing, at line 1 column 21"
        );
    }
}
