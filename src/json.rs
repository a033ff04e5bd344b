//! JSON objects, read more strictly than serde's derived code does.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

/// A `T` that is read from a JSON object only. Derived code also takes a list of the fields' values,
/// and so sees claims that no other parser sees.
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

/// For `#[serde(default, deserialize_with = "present")]`: returns whether the member exists, whatever
/// its value.
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
        assert!(serde_json::from_str::<Point>("[1]").is_ok(), "derived code reads it");
        for json in ["[1]", "[]", "null", "\"x\"", "1", r#"{"x":1,"x":2}"#, "{} {}"] {
            assert!(serde_json::from_str::<Object<Point>>(json).is_err(), "{json}");
        }
    }
}
