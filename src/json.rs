//! Reading JSON more strictly than serde's derived code does.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

/// A `T` that is read from a JSON object only. Derived code would also take a list of the fields' values, and so see claims
/// where no other parser does.
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

/// For `#[serde(default, deserialize_with = "present")]`: whether the member is there, whatever its value.
#[cfg(feature = "jwks")]
pub(crate) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer).map(|_| true)
}

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
        assert!(serde_json::from_str::<Point>("[1]").is_ok(), "what is guarded against");
        for json in ["[1]", "[]", "null", "\"x\"", "1", r#"{"x":1,"x":2}"#, "{} {}"] {
            assert!(serde_json::from_str::<Object<Point>>(json).is_err(), "{json}");
        }
    }
}
