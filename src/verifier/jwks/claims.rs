//! The claims of a ServiceAccount token.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Deserializer, de::IgnoredAny};

use crate::{
    audience::{Audiences, ClaimedAudiences},
    identity::{UserInfo, extra_key},
    json::Object,
    verdict::{Acceptance, Reason},
};

/// The issuer that stands in the tokens of Secrets of type `kubernetes.io/service-account-token`.
pub(super) const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";

#[derive(Deserialize)]
pub(super) struct Claims<'a> {
    #[serde(borrow)]
    iss: Cow<'a, str>,
    #[serde(borrow)]
    sub: Cow<'a, str>,
    #[serde(borrow)]
    aud: Option<ClaimedAudiences<'a>>,
    exp: Option<f64>,
    nbf: Option<f64>,
    iat: Option<f64>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    jti: Option<String>,
    #[serde(borrow, rename = "kubernetes.io")]
    kubernetes: Option<Object<Kubernetes<'a>>>,
    #[serde(borrow, rename = "kubernetes.io/serviceaccount/namespace")]
    legacy_namespace: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "kubernetes.io/serviceaccount/service-account.name")]
    legacy_name: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "kubernetes.io/serviceaccount/service-account.uid")]
    legacy_uid: Option<Cow<'a, str>>,
}

/// The private claim of bound tokens (`pkg/serviceaccount/claims.go`).
#[derive(Deserialize)]
struct Kubernetes<'a> {
    #[serde(borrow)]
    namespace: Cow<'a, str>,
    #[serde(borrow)]
    serviceaccount: Object<Reference<'a>>,
    #[serde(borrow)]
    pod: Option<Object<Reference<'a>>>,
    #[serde(borrow)]
    node: Option<Object<Reference<'a>>>,
}

#[derive(Deserialize)]
struct Reference<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    uid: Option<Cow<'a, str>>,
}

/// What the claims are held against.
pub(super) struct Expected<'a> {
    pub(super) issuers: &'a [Arc<str>],
    pub(super) audiences: &'a Audiences,
    pub(super) leeway: Duration,
    pub(super) now: SystemTime,
    pub(super) legacy_tokens: bool,
}

impl<'a> Claims<'a> {
    pub(super) fn parse(json: &'a [u8]) -> Result<Self, Reason> {
        serde_json::from_slice::<Object<Self>>(json).map(|Object(claims)| claims).map_err(|_| Reason::Malformed)
    }

    /// The checks that need no key: cheap, so they come first.
    pub(super) fn check(&self, expected: &Expected<'_>) -> Result<(), Reason> {
        let known = expected.issuers.iter().any(|issuer| **issuer == *self.iss);
        if !(known || self.is_legacy(expected)) {
            return Err(Reason::Issuer);
        }
        self.check_times(expected)?;
        match &self.aud {
            Some(claimed) if expected.audiences.intersection(claimed.iter()).is_empty() => Err(Reason::Audience),
            None if !self.is_legacy(expected) => Err(Reason::Audience),
            _ => Ok(()),
        }
    }

    /// The ServiceAccount, once the signature has been verified.
    pub(super) fn accept(self, expected: &Expected<'_>) -> Result<Acceptance, Reason> {
        let expires_at = self.expires_at()?;
        let issuer = expected.issuers.iter().find(|issuer| ***issuer == *self.iss).cloned();
        let issuer = issuer.unwrap_or_else(|| Arc::from(&*self.iss));
        let user = if self.is_legacy(expected) { self.legacy_user() } else { self.bound_user() }
            .ok_or(Reason::NotAServiceAccount)?;
        // Two statements of who it is must agree.
        if *self.sub != *user.username {
            return Err(Reason::NotAServiceAccount);
        }
        match &self.aud {
            Some(claimed) => {
                Acceptance::from_user_info(user, expected.audiences, claimed.iter(), Some(issuer), expires_at)
            }
            // A legacy token has no audience: whoever accepts one accepts it for its own.
            None => {
                let own = expected.audiences.required().unwrap_or_default().iter().map(|audience| &**audience);
                Acceptance::from_user_info(user, expected.audiences, own, Some(issuer), expires_at)
            }
        }
    }

    /// Never unless that was asked for: an operator who lists the legacy issuer with others has not asked for tokens without
    /// audience and expiry.
    fn is_legacy(&self, expected: &Expected<'_>) -> bool {
        expected.legacy_tokens && self.iss == LEGACY_ISSUER
    }

    /// `exp` is required but of a legacy token, which has none; `nbf` and `iat` count where they are there.
    fn check_times(&self, expected: &Expected<'_>) -> Result<(), Reason> {
        match self.expires_at()? {
            Some(expiry) if expiry.checked_add(expected.leeway).is_none_or(|end| expected.now < end) => {}
            None if self.is_legacy(expected) => {}
            _ => return Err(Reason::Expired),
        }
        let latest = expected.now.checked_add(expected.leeway).ok_or(Reason::NotYetValid)?;
        for begin in [self.nbf, self.iat].into_iter().flatten() {
            if time(begin)? > latest {
                return Err(Reason::NotYetValid);
            }
        }
        Ok(())
    }

    fn expires_at(&self) -> Result<Option<SystemTime>, Reason> {
        self.exp.map(time).transpose()
    }

    fn bound_user(&self) -> Option<UserInfo> {
        let Object(kubernetes) = self.kubernetes.as_ref()?;
        let account = &kubernetes.serviceaccount.0;
        let mut user = UserInfo::service_account(&kubernetes.namespace, &account.name, account.uid.as_deref()?);
        let mut extra = |key: &str, value: &str| user.extra.insert(key.into(), vec![value.into()]);
        for (object, name, uid) in [
            (&kubernetes.pod, extra_key::POD_NAME, extra_key::POD_UID),
            (&kubernetes.node, extra_key::NODE_NAME, extra_key::NODE_UID),
        ] {
            if let Some(Object(object)) = object {
                extra(name, &object.name);
                object.uid.as_deref().map(|value| extra(uid, value));
            }
        }
        if let Some(jti) = &self.jti {
            extra(extra_key::CREDENTIAL_ID, &format!("JTI={jti}"));
        }
        Some(user)
    }

    fn legacy_user(&self) -> Option<UserInfo> {
        let (namespace, name) = (self.legacy_namespace.as_deref()?, self.legacy_name.as_deref()?);
        Some(UserInfo::service_account(namespace, name, self.legacy_uid.as_deref()?))
    }
}

/// A `NumericDate` (RFC 7519 §2): seconds, whole or not. One before 1970 or beyond the clock's range is no time.
fn time(seconds: f64) -> Result<SystemTime, Reason> {
    let since_epoch = Duration::try_from_secs_f64(seconds).map_err(|_| Reason::Malformed)?;
    UNIX_EPOCH.checked_add(since_epoch).ok_or(Reason::Malformed)
}

/// A `jti` that is missing or not a string is no error in Kubernetes, it is just not there.
fn text_or_nothing<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Lenient {
        Text(String),
        Other(IgnoredAny),
    }
    Ok(match Lenient::deserialize(deserializer)? {
        Lenient::Text(text) => Some(text),
        Lenient::Other(_) => None,
    })
}
