//! Representation of objects, lists and events by the `Accept` header: full or metadata only.

use serde_json::{Value, json};

use super::{objects::set, status::Status};

/// The API version of metadata-only objects.
const META: &str = "meta.k8s.io/v1";

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Representation {
    Full,
    /// `as=PartialObjectMetadata`: of one object, or of the object of each event.
    Metadata,
    /// `as=PartialObjectMetadataList`
    MetadataList,
}

impl Representation {
    /// Chooses the first clause of an `Accept` header that the server can produce.
    pub(super) fn of(accept: &str) -> Self {
        let known = |clause: &str| {
            let mut parts = clause.split(';').map(str::trim);
            let is_json =
                matches!(parts.next(), Some("application/json" | "application/*" | "*/*"));
            match parts.find_map(|part| part.strip_prefix("as=")) {
                _ if !is_json => None,
                None => Some(Self::Full),
                Some("PartialObjectMetadata") => Some(Self::Metadata),
                Some("PartialObjectMetadataList") => Some(Self::MetadataList),
                Some(_) => None,
            }
        };
        accept.split(',').find_map(known).unwrap_or(Self::Full)
    }

    /// Represents an object, or the object of an event.
    pub(super) fn object(self, object: Value) -> Result<Value, Status> {
        match self {
            Self::Full => Ok(object),
            Self::Metadata => Ok(metadata(&object)),
            Self::MetadataList => Err(Status::not_acceptable(
                "you requested PartialObjectMetadataList, but the requested object is not a list",
            )),
        }
    }

    pub(super) fn list(self, mut list: Value) -> Result<Value, Status> {
        match self {
            Self::Full => Ok(list),
            Self::Metadata => Err(Status::not_acceptable(
                "you requested PartialObjectMetadata, but the requested object is a list",
            )),
            Self::MetadataList => {
                let items = list.get("items").and_then(Value::as_array).into_iter().flatten();
                let items: Vec<_> = items.map(metadata).collect();
                set(&mut list, "items", json!(items));
                set(&mut list, "kind", json!("PartialObjectMetadataList"));
                set(&mut list, "apiVersion", json!(META));
                Ok(list)
            }
        }
    }
}

fn metadata(object: &Value) -> Value {
    let metadata = object.get("metadata");
    json!({"kind": "PartialObjectMetadata", "apiVersion": META, "metadata": metadata})
}

#[cfg(test)]
mod tests {
    use super::Representation::{self, Full, Metadata, MetadataList};

    #[test]
    fn the_first_known_clause_of_accept_counts() {
        for (accept, expected) in [
            ("", Full),
            ("*/*", Full),
            ("application/json", Full),
            ("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", Metadata),
            ("application/json; as=PartialObjectMetadataList; v=v1", MetadataList),
            ("application/json;as=Table;v=v1, application/json", Full),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata,application/json;\
                 as=PartialObjectMetadataList",
                MetadataList,
            ),
        ] {
            assert_eq!(Representation::of(accept), expected, "{accept}");
        }
    }
}
