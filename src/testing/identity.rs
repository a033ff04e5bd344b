//! Identities for unit tests of handlers.

use std::{sync::Arc, time::SystemTime};

use crate::identity::{ServiceAccountIdentity, UserInfo, extra_key};

/// Builds a [`ServiceAccountIdentity`] without a token, for unit tests of handlers.
///
/// ```
/// use tower_kube_auth::testing::IdentityBuilder;
///
/// let caller = IdentityBuilder::new("shop", "checkout").audience("orders").build();
/// assert_eq!(caller.audiences().collect::<Vec<_>>(), ["orders"]);
/// ```
#[derive(Clone, Debug)]
pub struct IdentityBuilder {
    user: UserInfo,
    audiences: Vec<Arc<str>>,
    issuer: Option<Arc<str>>,
    expires_at: Option<SystemTime>,
    is_from_fallback: bool,
}

impl IdentityBuilder {
    /// Starts with a ServiceAccount of that namespace and name, and a fixed uid.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        let user =
            UserInfo::service_account(namespace, name, "00000000-0000-4000-8000-000000000000");
        Self {
            user,
            audiences: Vec::new(),
            issuer: None,
            expires_at: None,
            is_from_fallback: false,
        }
    }

    /// Sets the uid.
    #[must_use]
    pub fn uid(mut self, uid: &str) -> Self {
        self.user.uid = uid.into();
        self
    }

    /// Adds an audience.
    #[must_use]
    pub fn audience(mut self, audience: &str) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// Sets the issuer.
    #[must_use]
    pub fn issuer(mut self, issuer: &str) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// Binds it to a Pod.
    #[must_use]
    pub fn pod(self, name: &str, uid: &str) -> Self {
        self.extra(extra_key::POD_NAME, name).extra(extra_key::POD_UID, uid)
    }

    /// Binds it to a Node.
    #[must_use]
    pub fn node(self, name: &str, uid: &str) -> Self {
        self.extra(extra_key::NODE_NAME, name).extra(extra_key::NODE_UID, uid)
    }

    /// Sets the expiry.
    #[must_use]
    pub fn expires_at(mut self, at: SystemTime) -> Self {
        self.expires_at = Some(at);
        self
    }

    /// Marks it as accepted by a fallback during an outage.
    #[must_use]
    pub fn from_fallback(mut self) -> Self {
        self.is_from_fallback = true;
        self
    }

    /// Adds a value to `extra`.
    #[must_use]
    pub fn extra(mut self, key: &str, value: &str) -> Self {
        self.user.extra.entry(key.into()).or_default().push(value.into());
        self
    }

    /// Returns the identity.
    ///
    /// # Panics
    ///
    /// If a ServiceAccount cannot have this namespace, name and uid: a mistake in the test.
    #[must_use]
    #[expect(clippy::panic, reason = "an impossible identity is a mistake in the test")]
    pub fn build(self) -> ServiceAccountIdentity {
        let username = self.user.username.clone();
        let identity = ServiceAccountIdentity::from_user_info(
            self.user,
            self.audiences,
            self.issuer,
            self.expires_at,
        )
        .unwrap_or_else(|| panic!("{username:?} with that uid is not a ServiceAccount"));
        if self.is_from_fallback { identity.by_fallback() } else { identity }
    }
}
