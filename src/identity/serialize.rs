//! The JSON form of an identity.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Serialize, Serializer, ser::SerializeStruct};

use super::identity::ServiceAccountIdentity;

impl Serialize for ServiceAccountIdentity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let length = if self.is_from_fallback() { 12 } else { 11 };
        let mut fields = serializer.serialize_struct("ServiceAccountIdentity", length)?;
        fields.serialize_field("username", self.username())?;
        fields.serialize_field("namespace", self.namespace())?;
        fields.serialize_field("name", self.name())?;
        fields.serialize_field("uid", self.uid())?;
        fields.serialize_field("groups", &self.groups().collect::<Vec<_>>())?;
        fields.serialize_field("audiences", &self.audiences().collect::<Vec<_>>())?;
        fields.serialize_field("issuer", &self.issuer())?;
        fields.serialize_field("pod", &self.pod())?;
        fields.serialize_field("node", &self.node())?;
        let seconds =
            |at: SystemTime| at.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs());
        fields.serialize_field("exp", &self.expires_at().and_then(seconds))?;
        let extra: BTreeMap<_, Vec<_>> =
            self.extra().map(|(key, values)| (key, values.collect())).collect();
        fields.serialize_field("extra", &extra)?;
        if self.is_from_fallback() {
            fields.serialize_field("fromFallback", &true)?;
        }
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::identity::{UserInfo, extra_key};

    #[test]
    fn the_json_form_names_every_part_and_a_fallback_only_if_there_was_one() {
        let mut user = UserInfo::service_account("ns", "name", "1");
        user.extra.insert(extra_key::POD_NAME.into(), vec!["p".into()]);
        user.extra.insert("example.org/attestation".into(), vec!["x".into(), "y".into()]);
        let (issuer, end) = ("https://issuer".into(), UNIX_EPOCH + Duration::from_millis(4_500));
        let identity =
            ServiceAccountIdentity::from_user_info(user, vec!["a".into()], Some(issuer), Some(end))
                .unwrap();
        let mut expected = json!({
            "username": "system:serviceaccount:ns:name",
            "namespace": "ns",
            "name": "name",
            "uid": "1",
            "groups": [
                "system:serviceaccounts",
                "system:serviceaccounts:ns",
                "system:authenticated",
            ],
            "audiences": ["a"],
            "issuer": "https://issuer",
            "pod": { "name": "p", "uid": null },
            "node": null,
            "exp": 4,
            "extra": {
                "authentication.kubernetes.io/pod-name": ["p"],
                "example.org/attestation": ["x", "y"],
            },
        });
        assert_eq!(serde_json::to_value(&identity).unwrap(), expected);
        expected["fromFallback"] = json!(true);
        assert_eq!(serde_json::to_value(identity.by_fallback()).unwrap(), expected);
    }
}
