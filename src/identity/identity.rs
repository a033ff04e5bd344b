//! The identity that a verified token stands for.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
    time::SystemTime,
};

use serde::Serialize;

use super::{
    authenticator_id::AuthenticatorId,
    extra_key, group,
    packed::{Extra, Groups},
    user_info::UserInfo,
    username::Username,
};

/// A Kubernetes ServiceAccount whose token a verifier accepted.
///
/// A function that takes one needs no further check of *who* calls, only of *what the caller may
/// do*. There are three ways to get one: the crate's verifiers; a [`Verifier`](crate::Verifier) of
/// your own, which states by [`Acceptance::builder`](crate::verdict::Acceptance::builder) that it
/// has verified the token; and `testing::IdentityBuilder` in tests. Clones share one allocation.
///
/// Equality compares every field, the token's audiences, expiry and credential id included;
/// [`Hash`] covers the username and the uid. As the key of a map, an identity therefore stands for
/// one token: use [`uid`](Self::uid) or [`username`](Self::username) as the key for a caller.
///
/// It is serialised with Kubernetes' field names, and never with the token:
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
    accepted_by: AuthenticatorId,
}

/// What a token says besides the name of its ServiceAccount.
#[cfg(feature = "jwks")]
pub(crate) struct Details {
    pub(crate) audiences: Vec<Arc<str>>,
    pub(crate) issuer: Option<Arc<str>>,
    pub(crate) expires_at: Option<SystemTime>,
    pub(crate) extra: Vec<(&'static str, Box<str>)>,
}

/// The Pod or the Node that a token is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BoundObject<'a> {
    /// The object's name.
    pub name: &'a str,
    /// The object's uid, if the API server or the token names it.
    pub uid: Option<&'a str>,
}

impl ServiceAccountIdentity {
    /// Returns `None` unless `user` is strictly a ServiceAccount, by its username, its uid, and the
    /// two groups that kube-apiserver gives to every ServiceAccount and that no user of another
    /// authenticator has by accident.
    pub(crate) fn from_user_info(
        user: UserInfo,
        audiences: Vec<Arc<str>>,
        issuer: Option<Arc<str>>,
        expires_at: Option<SystemTime>,
    ) -> Option<Self> {
        let username = Username::parse(&user.username)?;
        let is_member = |wanted: &str| user.groups.iter().any(|group| group == wanted);
        if !is_uid(&user.uid)
            || !is_member(group::ALL_SERVICE_ACCOUNTS)
            || !is_member(&group::of_namespace(username.namespace()))
        {
            return None;
        }
        let extra = user.extra.into_iter().map(|(key, values)| Extra::new(key, values)).collect();
        Some(Self(Arc::new(Inner {
            username,
            uid: user.uid.into(),
            groups: Groups::new(user.groups),
            audiences: audiences.into(),
            issuer,
            extra,
            expires_at,
            is_from_fallback: false,
            accepted_by: AuthenticatorId::default(),
        })))
    }

    /// Returns what [`from_user_info`](Self::from_user_info) returns for the user that
    /// kube-apiserver makes of this ServiceAccount, without making that user. `None` if the
    /// namespace, the name or the uid is not valid.
    #[cfg(feature = "jwks")]
    pub(crate) fn of_service_account(
        namespace: &str,
        name: &str,
        uid: &str,
        details: Details,
    ) -> Option<Self> {
        let username = Username::new(namespace, name).filter(|_| is_uid(uid))?;
        let mut extra = details.extra;
        // The API server's answer is a map in this order.
        extra.sort_unstable_by_key(|(key, _)| *key);
        Some(Self(Arc::new(Inner {
            username,
            uid: uid.into(),
            groups: Groups::Standard(group::of_namespace(namespace).into()),
            audiences: details.audiences.into(),
            issuer: details.issuer,
            extra: extra.into_iter().map(|(key, value)| Extra::one(key, value)).collect(),
            expires_at: details.expires_at,
            is_from_fallback: false,
            accepted_by: AuthenticatorId::default(),
        })))
    }

    /// Marks the identity as accepted by an authenticator.
    #[cfg(feature = "server")]
    pub(crate) fn accepted_by(mut self, authenticator: AuthenticatorId) -> Self {
        Arc::make_mut(&mut self.0).accepted_by = authenticator;
        self
    }

    #[cfg(feature = "server")]
    pub(crate) fn is_accepted_by(&self, authenticator: AuthenticatorId) -> bool {
        self.0.accepted_by.is_same(authenticator)
    }

    /// Marks the identity as accepted by a fallback.
    pub(crate) fn by_fallback(mut self) -> Self {
        Arc::make_mut(&mut self.0).is_from_fallback = true;
        self
    }

    /// Returns the ServiceAccount's namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.0.username.namespace()
    }

    /// Returns the ServiceAccount's name within its namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.username.name()
    }

    /// Returns the ServiceAccount's uid. A ServiceAccount that was deleted and created again under
    /// the same name has another one.
    #[must_use]
    pub fn uid(&self) -> &str {
        &self.0.uid
    }

    /// Returns `system:serviceaccount:<namespace>:<name>`, the form of RBAC subjects and audit
    /// logs.
    #[must_use]
    pub fn username(&self) -> &str {
        self.0.username.as_str()
    }

    /// Returns the groups as the API server reports them: `system:serviceaccounts`,
    /// `system:serviceaccounts:<namespace>`, `system:authenticated`.
    #[must_use]
    pub fn groups(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.groups.iter()
    }

    /// Returns those audiences of the token that this service accepts. With
    /// [`Audiences::api_server`](crate::Audiences::api_server), those that the API server named: it
    /// may name none.
    #[must_use]
    pub fn audiences(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.audiences.iter().map(|audience| &**audience)
    }

    /// Returns the token's issuer (`iss`), if the verifier knows it.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.0.issuer.as_deref()
    }

    /// Returns the Pod that the token is bound to, if any.
    #[must_use]
    pub fn pod(&self) -> Option<BoundObject<'_>> {
        self.bound(extra_key::POD_NAME, extra_key::POD_UID)
    }

    /// Returns the Node that the token is bound to, or that its Pod runs on. Kubernetes reports it
    /// from 1.30 on.
    #[must_use]
    pub fn node(&self) -> Option<BoundObject<'_>> {
        self.bound(extra_key::NODE_NAME, extra_key::NODE_UID)
    }

    /// Returns the token's credential id, `JTI=<jti>`, which the API server's audit log has too.
    /// Kubernetes reports it from 1.30 on.
    #[must_use]
    pub fn credential_id(&self) -> Option<&str> {
        self.first_extra(extra_key::CREDENTIAL_ID)
    }

    /// Returns when the token expires (`exp`), if the verifier knows it.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.0.expires_at
    }

    /// Returns `UserInfo.extra`, each key with its values. Includes the keys that
    /// [`pod`](Self::pod), [`node`](Self::node) and [`credential_id`](Self::credential_id) read.
    #[must_use]
    pub fn extra(
        &self,
    ) -> impl ExactSizeIterator<Item = (&str, impl ExactSizeIterator<Item = &str>)> {
        self.0.extra.iter().map(|extra| (extra.key(), extra.values().iter().map(|value| &**value)))
    }

    /// Returns whether a fallback accepted the token, because the verifier was unavailable
    /// ([`Fallback`](crate::verifier::Fallback)).
    ///
    /// The token is authentic, but an offline fallback does not see that the ServiceAccount, the
    /// Pod or the Secret was deleted. A handler may want to postpone what cannot be undone.
    /// Serialised as `fromFallback`, only if it is true.
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

/// Covers the username and the uid, which are a part of what equality compares.
impl Hash for ServiceAccountIdentity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.username().hash(state);
        self.uid().hash(state);
    }
}

/// Kubernetes' uids are UUIDs, but nothing promises it: accepts visible ASCII of bounded length.
fn is_uid(uid: &str) -> bool {
    (1..=128).contains(&uid.len()) && uid.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        hash::{BuildHasher, RandomState},
    };

    use super::*;

    fn identity_of(user: UserInfo) -> Option<ServiceAccountIdentity> {
        ServiceAccountIdentity::from_user_info(user, vec!["a".into()], None, None)
    }

    #[test]
    fn a_user_without_the_groups_of_a_service_account_is_not_one() {
        let user = UserInfo::service_account("ns", "name", "1");
        assert!(identity_of(user.clone()).is_some());
        for missing in 0..2 {
            let mut impostor = user.clone();
            impostor.groups.remove(missing);
            assert!(identity_of(impostor).is_none());
        }
        assert!(
            identity_of(UserInfo {
                groups: vec![group::ALL_SERVICE_ACCOUNTS.into(), group::of_namespace("other")],
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
    fn both_constructors_make_the_same_identity() {
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

    #[test]
    fn equal_identities_have_one_hash_and_other_tokens_are_other_keys() {
        let user = || UserInfo::service_account("ns", "name", "1");
        let (one, same) = (identity_of(user()).unwrap(), identity_of(user()).unwrap());
        let other_audience =
            ServiceAccountIdentity::from_user_info(user(), vec!["b".into()], None, None).unwrap();
        let hasher = RandomState::new();
        assert_eq!(hasher.hash_one(&one), hasher.hash_one(&same));
        assert_eq!(hasher.hash_one(&one), hasher.hash_one(&other_audience), "a part of equality");
        assert_eq!(HashSet::from([one, same, other_audience]).len(), 2);
    }
}
