//! The notations of values: durations with a unit, lists, and texts that `Debug` does not show.

use std::{fmt, time::Duration};

use jiff::SignedDuration;
use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};

/// A duration with its unit, such as `60s` or `1h 30m`.
///
/// A bare number is an error, because it does not say whether it is seconds or milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DurationValue(pub(super) Duration);

impl<'de> Deserialize<'de> for DurationValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WithUnit;

        impl Visitor<'_> for WithUnit {
            type Value = DurationValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration with its unit, such as \"60s\" or \"1h 30m\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                text.parse::<SignedDuration>()
                    .ok()
                    .and_then(|duration| Duration::try_from(duration).ok())
                    .map(DurationValue)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(WithUnit)
    }
}

/// Calls `setter` with the value, if there is one. Otherwise the builder's default stays.
pub(super) fn apply<B, T, V: Into<T>>(value: Option<V>, builder: B, setter: fn(B, T) -> B) -> B {
    match value {
        Some(value) => setter(builder, value.into()),
        None => builder,
    }
}

impl From<DurationValue> for Duration {
    fn from(DurationValue(duration): DurationValue) -> Self {
        duration
    }
}

/// A list of texts, or one text with commas between them, as environment variables have it.
///
/// It has at least one entry, and no entry is empty or listed twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ListValue(Vec<String>);

impl ListValue {
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    fn checked<E: de::Error>(entries: Vec<String>) -> Result<Self, E> {
        if entries.is_empty() {
            return Err(E::custom("the list is empty: add an entry, or drop the field"));
        }
        for (index, entry) in entries.iter().enumerate() {
            if entry.is_empty() {
                let problem = "the list has an empty entry: is an environment variable unset?";
                return Err(E::custom(problem));
            }
            if entries.iter().take(index).any(|earlier| earlier == entry) {
                return Err(E::custom(format_args!("{entry:?} is listed twice: drop one")));
            }
        }
        Ok(Self(entries))
    }
}

impl<'de> Deserialize<'de> for ListValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListOrText;

        impl<'de> Visitor<'de> for ListOrText {
            type Value = ListValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list, or one text with commas between the entries")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                let entries = match text.trim() {
                    "" => Vec::new(),
                    text => text.split(',').map(|entry| entry.trim().to_owned()).collect(),
                };
                ListValue::checked(entries)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = list.next_element()? {
                    entries.push(entry);
                }
                ListValue::checked(entries)
            }
        }

        deserializer.deserialize_any(ListOrText)
    }
}

/// A text that `Debug` does not show: a private key may be pasted in place of a public one.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
pub(super) struct KeyText(pub(super) String);

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.0.len())
    }
}
