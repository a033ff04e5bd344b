//! Who a verified token belongs to.

mod packed;
mod username;

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeStruct};

use packed::{Extra, Groups};
pub(crate) use username::Username;

/// The extra keys under which kube-apiserver reports what a token is bound to (`k8s.io/apiserver`,
/// `authentication/serviceaccount`).
pub(crate) mod extra_key {
    pub(crate) const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
    pub(crate) const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
    pub(crate) const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
    pub(crate) const NODE_UID: &str = "authentication.kubernetes.io/node-uid";
    pub(crate) const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

    pub(crate) const ALL: [&str; 5] = [POD_NAME, POD_UID, NODE_NAME, NODE_UID, CREDENTIAL_ID];
}

const ALL_SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
const AUTHENTICATED: &str = "system:authenticated";

/// A Kubernetes ServiceAccount whose token was verified.
///
/// There is no way to make one but to verify a token (or, in tests, `testing::IdentityBuilder`), so a function that takes
/// a `ServiceAccountIdentity` needs no further check of *who*; only of *what they may do*. Cloning it costs a reference
/// count.
///
/// It is serialised with Kubernetes' own field names, and never with the token:
///
/// ```
/// use tower_kube_auth::testing::IdentityBuilder;
///
/// let caller = IdentityBuilder::new("shop", "checkout").pod("checkout-7d9f", "11f3").build();
/// assert_eq!(caller.username(), "system:serviceaccount:shop:checkout");
/// assert_eq!(caller.to_string(), caller.username());
/// assert_eq!(caller.pod().unwrap().name, "checkout-7d9f");
/// assert_eq!(serde_json::to_value(&caller).unwrap()["namespace"], "shop");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ServiceAccountIdentity(Arc<Inner>);

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    username: Username,
    uid: Box<str>,
    groups: Groups,
    audiences: Box<[Arc<str>]>,
    issuer: Option<Arc<str>>,
    extra: Box<[Extra]>,
    expires_at: Option<SystemTime>,
    is_from_fallback: bool,
}

/// What a token says besides whose it is.
#[cfg(feature = "jwks")]
pub(crate) struct Details {
    pub(crate) audiences: Vec<Arc<str>>,
    pub(crate) issuer: Option<Arc<str>>,
    pub(crate) expires_at: Option<SystemTime>,
    pub(crate) extra: Vec<(&'static str, Box<str>)>,
}

/// The Pod or the Node that a token is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct BoundObject<'a> {
    /// The object's name.
    pub name: &'a str,
    /// The object's uid, where the API server or the token names it.
    pub uid: Option<&'a str>,
}

impl ServiceAccountIdentity {
    /// `None` unless `user` is strictly a ServiceAccount: the username, a uid, and the two groups that kube-apiserver gives
    /// to every ServiceAccount and that no other authenticator's user has by accident.
    pub(crate) fn from_user_info(
        user: UserInfo,
        audiences: Vec<Arc<str>>,
        issuer: Option<Arc<str>>,
        expires_at: Option<SystemTime>,
    ) -> Option<Self> {
        let username = Username::parse(&user.username)?;
        let is_member = |wanted: &str| user.groups.iter().any(|group| group == wanted);
        if !is_uid(&user.uid)
            || !is_member(ALL_SERVICE_ACCOUNTS)
            || !is_member(&namespace_group(username.namespace()))
        {
            return None;
        }
        let groups = Groups::new(user.groups);
        let extra = user.extra.into_iter().map(|(key, values)| Extra::new(key, values)).collect();
        let uid = user.uid.into();
        let audiences = audiences.into();
        let is_from_fallback = false;
        Some(Self(Arc::new(Inner {
            username,
            uid,
            groups,
            audiences,
            issuer,
            extra,
            expires_at,
            is_from_fallback,
        })))
    }

    /// The identity that [`from_user_info`](Self::from_user_info) would make of what kube-apiserver says about this
    /// ServiceAccount, without the detour. `None` if the namespace, the name or the uid is none.
    #[cfg(feature = "jwks")]
    pub(crate) fn of_service_account(
        namespace: &str,
        name: &str,
        uid: &str,
        details: Details,
    ) -> Option<Self> {
        let username = Username::new(namespace, name).filter(|_| is_uid(uid))?;
        let groups = Groups::Standard(namespace_group(namespace).into());
        let Details { audiences, issuer, expires_at, mut extra } = details;
        // As in the API server's answer, where the keys of a map have an order.
        extra.sort_unstable_by_key(|(key, _)| *key);
        let extra = extra.into_iter().map(|(key, value)| Extra::one(key, value)).collect();
        let (uid, audiences) = (uid.into(), audiences.into());
        let is_from_fallback = false;
        Some(Self(Arc::new(Inner {
            username,
            uid,
            groups,
            audiences,
            issuer,
            extra,
            expires_at,
            is_from_fallback,
        })))
    }

    /// The same identity, as a fallback has found it.
    pub(crate) fn by_fallback(mut self) -> Self {
        Arc::make_mut(&mut self.0).is_from_fallback = true;
        self
    }

    /// The ServiceAccount's namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.0.username.namespace()
    }

    /// The ServiceAccount's name within its namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.username.name()
    }

    /// The ServiceAccount's uid: a ServiceAccount that was deleted and made again under the same name has another.
    #[must_use]
    pub fn uid(&self) -> &str {
        &self.0.uid
    }

    /// `system:serviceaccount:<namespace>:<name>`, as RBAC subjects and audit logs spell it.
    #[must_use]
    pub fn username(&self) -> &str {
        self.0.username.as_str()
    }

    /// The groups, as the API server reports them: `system:serviceaccounts`, `system:serviceaccounts:<namespace>`,
    /// `system:authenticated`.
    #[must_use]
    pub fn groups(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.groups.iter()
    }

    /// Those audiences of the token that this service answers to.
    #[must_use]
    pub fn audiences(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.audiences.iter().map(|audience| &**audience)
    }

    /// The token's issuer (`iss`), if the verifier knows it.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.0.issuer.as_deref()
    }

    /// The Pod that the token is bound to, if any.
    #[must_use]
    pub fn pod(&self) -> Option<BoundObject<'_>> {
        self.bound(extra_key::POD_NAME, extra_key::POD_UID)
    }

    /// The Node that the token is bound to, or that its Pod runs on. Known from Kubernetes 1.30 on.
    #[must_use]
    pub fn node(&self) -> Option<BoundObject<'_>> {
        self.bound(extra_key::NODE_NAME, extra_key::NODE_UID)
    }

    /// The token's credential id, `JTI=<jti>`, as it stands in the API server's audit log. Known from Kubernetes 1.30 on.
    #[must_use]
    pub fn credential_id(&self) -> Option<&str> {
        self.first_extra(extra_key::CREDENTIAL_ID)
    }

    /// When the token expires (`exp`), if the verifier knows it.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.0.expires_at
    }

    /// What else the authenticator said, `UserInfo.extra`: each key with its values. Includes the keys that
    /// [`pod`](Self::pod), [`node`](Self::node) and [`credential_id`](Self::credential_id) are read from.
    #[must_use]
    pub fn extra(
        &self,
    ) -> impl ExactSizeIterator<Item = (&str, impl ExactSizeIterator<Item = &str>)> {
        self.0.extra.iter().map(|extra| (extra.key(), extra.values().iter().map(|value| &**value)))
    }

    /// Whether the token was accepted by a fallback, because the verifier proper was unavailable
    /// ([`or_when_unavailable`](crate::Verifier::or_when_unavailable)).
    ///
    /// The token is authentic then, but where the fallback works offline, a deletion of the ServiceAccount, Pod or Secret may have
    /// been missed. A handler may want to put off what cannot be undone. Serialised as `fromFallback`, only where it is true.
    #[must_use]
    pub fn is_from_fallback(&self) -> bool {
        self.0.is_from_fallback
    }

    fn first_extra(&self, wanted: &str) -> Option<&str> {
        let extra = self.0.extra.iter().find(|extra| extra.key() == wanted)?;
        extra.values().first().map(|value| &**value)
    }

    fn bound(&self, name: &str, uid: &str) -> Option<BoundObject<'_>> {
        self.first_extra(name).map(|name| BoundObject { name, uid: self.first_extra(uid) })
    }
}

impl fmt::Display for ServiceAccountIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.username())
    }
}

impl fmt::Debug for ServiceAccountIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceAccountIdentity")
            .field("username", &self.username())
            .field("uid", &self.uid())
            .field("groups", &self.0.groups)
            .field("audiences", &self.0.audiences)
            .field("issuer", &self.issuer())
            .field("extra", &self.0.extra)
            .field("expires_at", &self.expires_at())
            .field("is_from_fallback", &self.is_from_fallback())
            .finish()
    }
}

impl Serialize for ServiceAccountIdentity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let length = if self.is_from_fallback() { 12 } else { 11 };
        let mut fields = serializer.serialize_struct("ServiceAccountIdentity", length)?;
        fields.serialize_field("username", self.username())?;
        fields.serialize_field("namespace", self.namespace())?;
        fields.serialize_field("name", self.name())?;
        fields.serialize_field("uid", self.uid())?;
        fields.serialize_field("groups", &self.0.groups)?;
        fields.serialize_field("audiences", &self.audiences().collect::<Vec<_>>())?;
        fields.serialize_field("issuer", &self.issuer())?;
        fields.serialize_field("pod", &self.pod())?;
        fields.serialize_field("node", &self.node())?;
        let seconds =
            |at: SystemTime| at.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs());
        fields.serialize_field("exp", &self.expires_at().and_then(seconds))?;
        let extra: BTreeMap<_, _> =
            self.0.extra.iter().map(|extra| (extra.key(), extra.values())).collect();
        fields.serialize_field("extra", &extra)?;
        if self.is_from_fallback() {
            fields.serialize_field("fromFallback", &true)?;
        }
        fields.end()
    }
}

/// A user as Kubernetes' authenticators describe one (`authentication.k8s.io/v1` `UserInfo`). Nothing in it is verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
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
    /// The user that kube-apiserver makes of a ServiceAccount: username, uid, and its three groups.
    #[must_use]
    pub fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        Self {
            username: format!("system:serviceaccount:{namespace}:{name}"),
            uid: uid.into(),
            groups: vec![
                ALL_SERVICE_ACCOUNTS.into(),
                namespace_group(namespace),
                AUTHENTICATED.into(),
            ],
            extra: BTreeMap::new(),
        }
    }
}

/// For `#[serde(deserialize_with = "or_default")]`: `null` is nothing, as for Go, which also writes its empty lists so.
pub(crate) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Here Go's `omitempty` does not help: an empty list in a map is written as `null`.
fn extra_or_default<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Vec<String>>, D::Error> {
    let extra: BTreeMap<_, Option<_>> = or_default(deserializer)?;
    Ok(extra.into_iter().map(|(key, values)| (key, values.unwrap_or_default())).collect())
}

fn namespace_group(namespace: &str) -> String {
    format!("{ALL_SERVICE_ACCOUNTS}:{namespace}")
}

/// Kubernetes' uids are UUIDs, but nothing promises it: visible ASCII of a sane length.
fn is_uid(uid: &str) -> bool {
    (1..=128).contains(&uid.len()) && uid.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity_of(user: UserInfo) -> Option<ServiceAccountIdentity> {
        ServiceAccountIdentity::from_user_info(user, vec!["a".into()], None, None)
    }

    #[test]
    fn a_user_with_a_service_accounts_name_but_without_its_groups_is_not_one() {
        let user = UserInfo::service_account("ns", "name", "1");
        assert!(identity_of(user.clone()).is_some());
        for missing in 0..2 {
            let mut impostor = user.clone();
            impostor.groups.remove(missing);
            assert!(identity_of(impostor).is_none());
        }
        assert!(
            identity_of(UserInfo {
                groups: vec![ALL_SERVICE_ACCOUNTS.into(), namespace_group("other")],
                ..user
            })
            .is_none()
        );
    }

    #[test]
    fn a_service_account_has_a_uid() {
        for uid in ["", " ", "a b", "ü", &"1".repeat(129)] {
            assert!(identity_of(UserInfo::service_account("ns", "name", uid)).is_none(), "{uid:?}");
        }
    }

    #[test]
    fn the_short_way_leads_to_the_same_identity() {
        let extra = [
            (extra_key::POD_NAME, "p"),
            (extra_key::NODE_NAME, "n"),
            (extra_key::CREDENTIAL_ID, "JTI=1"),
        ];
        let short = |namespace, name, uid| {
            let extra = extra.map(|(key, value)| (key, value.into())).into();
            let details =
                Details { audiences: vec!["a".into()], issuer: None, expires_at: None, extra };
            ServiceAccountIdentity::of_service_account(namespace, name, uid, details)
        };
        for (namespace, name, uid) in [
            ("ns", "name", "1"),
            ("n:s", "name", "1"),
            ("ns", "na me", "1"),
            ("ns", "name", ""),
            ("", "name", "1"),
            ("ns", "", "1"),
        ] {
            let mut user = UserInfo::service_account(namespace, name, uid);
            user.extra = extra.map(|(key, value)| (key.into(), vec![value.into()])).into();
            assert_eq!(short(namespace, name, uid), identity_of(user), "{namespace}/{name}/{uid}");
        }
        assert!(short("ns", "name", "1").is_some());
    }

    #[test]
    fn an_identity_of_a_fallback_says_so_and_its_original_does_not() {
        let original = identity_of(UserInfo::service_account("ns", "name", "1")).unwrap();
        let marked = original.clone().by_fallback();
        assert!(marked.is_from_fallback() && !original.is_from_fallback());
        assert_ne!(marked, original);
        assert!(format!("{marked:?}").contains("is_from_fallback: true"));
        let json = |identity| serde_json::to_value(identity).unwrap();
        let (mut marked, original) = (json(&marked), json(&original));
        assert_eq!(marked.as_object_mut().unwrap().remove("fromFallback"), Some(true.into()));
        assert_eq!(marked, original);
    }

    #[test]
    fn unknown_extras_are_kept_and_known_ones_are_read() {
        let mut user = UserInfo::service_account("ns", "name", "1");
        user.extra.insert(extra_key::NODE_NAME.into(), vec!["worker".into()]);
        user.extra.insert("example.org/attestation".into(), vec!["x".into(), "y".into()]);
        let identity = identity_of(user).unwrap();
        assert_eq!(identity.node(), Some(BoundObject { name: "worker", uid: None }));
        assert_eq!(identity.pod(), None);
        assert!(
            identity
                .extra()
                .any(|(key, values)| key == "example.org/attestation" && values.len() == 2)
        );
    }
}
