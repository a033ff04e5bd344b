//! Lists and events of the API server, reduced to the metadata that the index needs.

use std::{borrow::Cow, collections::HashMap, time::SystemTime};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::pod_metadata::{OwnerReference, PodMetadata};

/// Upper bound for the labels, and for the owner references, of a Pod that are kept, in bytes of
/// JSON. Whoever creates a Pod may give it more than a megabyte of each.
const KEPT: usize = 16 * 1024;

/// A page of a list.
#[derive(Deserialize)]
pub(super) struct Page<'a> {
    /// `PartialObjectMetadataList`, or `PodList` of a server that sends whole objects.
    #[serde(borrow)]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) metadata: PageMetadata<'a>,
    /// Go writes an empty list as `null`. A list without the field is none: it would delete
    /// everything. The attribute makes the field required.
    #[serde(borrow, deserialize_with = "Deserialize::deserialize")]
    pub(super) items: Option<Vec<ApiObject<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageMetadata<'a> {
    #[serde(borrow)]
    pub(super) resource_version: Cow<'a, str>,
    /// Empty on the last page.
    #[serde(borrow, default, rename = "continue")]
    pub(super) continue_token: Cow<'a, str>,
}

/// An event of a watch.
#[derive(Deserialize)]
pub(super) struct Event<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) object: ApiObject<'a>,
}

/// An object, or the `Status` of an `ERROR` event.
#[derive(Deserialize)]
pub(super) struct ApiObject<'a> {
    #[serde(borrow, default)]
    pub(super) metadata: Metadata<'a>,
    /// Of a `Status`.
    pub(super) code: Option<u16>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata<'a> {
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) namespace: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) uid: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) resource_version: Cow<'a, str>,
    deletion_timestamp: Option<String>,
    /// Read only if they are kept.
    #[serde(borrow)]
    labels: Option<&'a RawValue>,
    #[serde(borrow)]
    owner_references: Option<&'a RawValue>,
}

impl Metadata<'_> {
    pub(super) fn deletion_timestamp(&self) -> Result<Option<SystemTime>, jiff::Error> {
        let parse = |text: &String| text.parse::<jiff::Timestamp>().map(SystemTime::from);
        self.deletion_timestamp.as_ref().map(parse).transpose()
    }

    pub(super) fn pod_metadata(&self) -> serde_json::Result<PodMetadata> {
        let is_kept = |json: &&RawValue| json.get().len() <= KEPT;
        let parse = |json: &RawValue| serde_json::from_str::<HashMap<_, _>>(json.get());
        let labels = self.labels.filter(is_kept).map(parse).transpose()?.unwrap_or_default();
        let parse = |json: &RawValue| serde_json::from_str::<Box<[OwnerReference]>>(json.get());
        let owner_references = self.owner_references.filter(is_kept).map(parse).transpose()?;
        let owner_references = owner_references.unwrap_or_default();
        Ok(PodMetadata::new(labels, owner_references))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_an_event_has_beside_its_metadata_is_skipped() {
        let line = r#"{"type":"MODIFIED","object":{"kind":"PartialObjectMetadata","apiVersion":
            "meta.k8s.io/v1","metadata":{"name":"web-0","namespace":"shop","uid":"u",
            "resourceVersion":"7","creationTimestamp":null,"deletionGracePeriodSeconds":30,
            "deletionTimestamp":"2033-05-18T03:33:20Z","labels":{"a":"\u00e4"},
            "managedFields":[{"fieldsV1":{"f:metadata":{"f:labels":{}}}}]}}}"#;
        let Event { kind, object } = serde_json::from_str(line).unwrap();
        let metadata = object.metadata;
        assert_eq!((&*kind, object.code), ("MODIFIED", None));
        assert_eq!((&*metadata.namespace, &*metadata.name), ("shop", "web-0"));
        assert_eq!((&*metadata.uid, &*metadata.resource_version), ("u", "7"));
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
        assert_eq!(metadata.deletion_timestamp().unwrap(), Some(at));
        assert!(matches!(metadata.name, Cow::Borrowed(_)));
    }

    #[test]
    fn labels_and_owners_are_kept_up_to_a_limit_each() {
        for (labels, owners) in [(KEPT, KEPT), (KEPT + 1, KEPT), (KEPT, KEPT + 1)] {
            let label = "x".repeat(labels - r#"{"a":""}"#.len());
            let owner = "x".repeat(owners - r#"[{"name":""}]"#.len());
            let json = format!(
                r#"{{"labels":{{"a":"{label}"}},"ownerReferences":[{{"name":"{owner}"}}]}}"#
            );
            let pod = serde_json::from_str::<Metadata<'_>>(&json).unwrap().pod_metadata().unwrap();
            assert_eq!(pod.label("a").is_some(), labels <= KEPT);
            assert_eq!(pod.owner_references().len(), usize::from(owners <= KEPT));
        }
    }

    #[test]
    fn a_status_has_a_code() {
        let line = r#"{"type":"ERROR","object":{"kind":"Status","metadata":{},"code":410}}"#;
        let event: Event<'_> = serde_json::from_str(line).unwrap();
        assert_eq!(event.object.code, Some(410));
    }

    #[test]
    fn a_list_may_be_null() {
        let list = r#"{"kind":"PodList","metadata":{"resourceVersion":"7"},"items":null}"#;
        let page: Page<'_> = serde_json::from_str(list).unwrap();
        assert_eq!(&*page.metadata.continue_token, "");
        assert!(page.items.is_none());
    }
}
