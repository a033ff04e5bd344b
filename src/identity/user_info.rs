//! Kubernetes' description of a user.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use super::group;

/// A user as Kubernetes' authenticators describe one (`authentication.k8s.io/v1` `UserInfo`).
///
/// It is a description only: nothing in it is verified. [`service_account`](Self::service_account)
/// and [`Default`] make one, whose fields can be set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct UserInfo {
    /// The username: `system:serviceaccount:<namespace>:<name>` for a ServiceAccount.
    #[serde(deserialize_with = "or_default")]
    pub username: String,
    /// The uid.
    #[serde(deserialize_with = "or_default")]
    pub uid: String,
    /// The groups.
    #[serde(deserialize_with = "or_default")]
    pub groups: Vec<String>,
    /// Anything else, by key.
    #[serde(deserialize_with = "extra_or_default")]
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// Returns the user that kube-apiserver makes of a ServiceAccount, with its username, uid and
    /// three groups.
    #[must_use]
    pub fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        Self {
            username: format!("system:serviceaccount:{namespace}:{name}"),
            uid: uid.into(),
            groups: vec![
                group::ALL_SERVICE_ACCOUNTS.into(),
                group::of_namespace(namespace),
                group::AUTHENTICATED.into(),
            ],
            extra: BTreeMap::new(),
        }
    }
}

/// For `#[serde(deserialize_with = "or_default")]`: reads `null` as the default, because Go writes
/// empty lists as `null`.
pub(crate) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Reads an empty list within the map, too: Go's `omitempty` does not apply there.
fn extra_or_default<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Vec<String>>, D::Error> {
    let extra: BTreeMap<_, Option<_>> = or_default(deserializer)?;
    Ok(extra.into_iter().map(|(key, values)| (key, values.unwrap_or_default())).collect())
}
