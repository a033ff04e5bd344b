//! The claims of a ServiceAccount token.

use std::{
    borrow::Cow,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::{
    audience::{Audiences, ClaimedAudiences},
    identity::{Details, ServiceAccountIdentity, extra_key},
    json::Object,
    verdict::{Acceptance, RejectReason},
};

/// The issuer in the tokens of Secrets of type `kubernetes.io/service-account-token`.
const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";

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
    #[serde(borrow, default)]
    jti: LenientString<'a>,
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
    serviceaccount: Object<ObjectReference<'a>>,
    #[serde(borrow)]
    pod: Option<Object<ObjectReference<'a>>>,
    #[serde(borrow)]
    node: Option<Object<ObjectReference<'a>>>,
}

#[derive(Deserialize)]
struct ObjectReference<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    uid: Option<Cow<'a, str>>,
}

/// What the claims are compared with.
pub(super) struct Expected<'a> {
    pub(super) issuers: &'a [Arc<str>],
    pub(super) audiences: &'a Audiences,
    pub(super) leeway: Duration,
    pub(super) max_token_lifetime: Option<Duration>,
    pub(super) now: SystemTime,
    pub(super) legacy_tokens: bool,
}

impl<'a> Claims<'a> {
    pub(super) fn parse(json: &'a [u8]) -> Result<Self, RejectReason> {
        serde_json::from_slice::<Object<Self>>(json)
            .map(|Object(claims)| claims)
            .map_err(|_| RejectReason::Malformed)
    }

    /// Applies the checks that need no key. They are cheap, so they precede the signature's.
    pub(super) fn check(&self, expected: &Expected<'_>) -> Result<(), RejectReason> {
        let is_known = expected.issuers.iter().any(|issuer| **issuer == *self.iss);
        if !(is_known || self.is_legacy(expected)) {
            return Err(RejectReason::Issuer);
        }
        self.check_times(expected)?;
        match &self.aud {
            Some(claimed) if expected.audiences.intersection(claimed.iter()).is_empty() => {
                Err(RejectReason::Audience)
            }
            None if !self.is_legacy(expected) => Err(RejectReason::Audience),
            _ => Ok(()),
        }
    }

    /// Returns the ServiceAccount. The signature must have been verified.
    pub(super) fn accept(self, expected: &Expected<'_>) -> Result<Acceptance, RejectReason> {
        let expires_at = self.expires_at()?;
        let issuer = expected.issuers.iter().find(|issuer| ***issuer == *self.iss).cloned();
        let issuer = issuer.unwrap_or_else(|| Arc::from(&*self.iss));
        let audiences = match &self.aud {
            Some(claimed) => expected.audiences.intersection(claimed.iter()),
            // A legacy token has no audience: it is accepted for all required ones.
            None => expected.audiences.required().unwrap_or_default().to_vec(),
        };
        if audiences.is_empty() {
            return Err(RejectReason::Audience);
        }
        let details =
            Details { audiences, issuer: Some(issuer), expires_at, extra: self.extra(expected) };
        let (namespace, name, uid) =
            self.service_account(expected).ok_or(RejectReason::NotAServiceAccount)?;
        let identity = ServiceAccountIdentity::of_service_account(namespace, name, uid, details);
        // `sub` must agree with the private claims.
        match identity {
            Some(identity) if identity.username() == self.sub => Ok(Acceptance::new(identity)),
            _ => Err(RejectReason::NotAServiceAccount),
        }
    }

    /// Whether the token is exempt from audience and expiry. Listing the legacy issuer among others
    /// does not exempt it; only the option does.
    fn is_legacy(&self, expected: &Expected<'_>) -> bool {
        expected.legacy_tokens && self.iss == LEGACY_ISSUER
    }

    /// Checks `exp`, which only a legacy token may lack, and `nbf` and `iat` if present.
    fn check_times(&self, expected: &Expected<'_>) -> Result<(), RejectReason> {
        match self.expires_at()? {
            Some(expiry)
                if expiry.checked_add(expected.leeway).is_none_or(|end| expected.now < end) => {}
            None if self.is_legacy(expected) => {}
            _ => return Err(RejectReason::Expired),
        }
        let latest = expected.now.checked_add(expected.leeway).ok_or(RejectReason::NotYetValid)?;
        for begin in [self.nbf, self.iat].into_iter().flatten() {
            if numeric_date(begin)? > latest {
                return Err(RejectReason::NotYetValid);
            }
        }
        match expected.max_token_lifetime {
            Some(limit) if !self.lives_at_most(limit) => Err(RejectReason::LifetimeTooLong),
            _ => Ok(()),
        }
    }

    fn lives_at_most(&self, limit: Duration) -> bool {
        let lifetime = self.exp.zip(self.iat).map(|(expiry, issued)| expiry - issued);
        lifetime.is_some_and(|seconds| seconds <= limit.as_secs_f64())
    }

    fn expires_at(&self) -> Result<Option<SystemTime>, RejectReason> {
        self.exp.map(numeric_date).transpose()
    }

    /// Returns namespace, name and uid.
    fn service_account(&self, expected: &Expected<'_>) -> Option<(&str, &str, &str)> {
        if self.is_legacy(expected) {
            let (namespace, name) =
                (self.legacy_namespace.as_deref()?, self.legacy_name.as_deref()?);
            return Some((namespace, name, self.legacy_uid.as_deref()?));
        }
        let Object(kubernetes) = self.kubernetes.as_ref()?;
        let Object(account) = &kubernetes.serviceaccount;
        Some((&kubernetes.namespace, &account.name, account.uid.as_deref()?))
    }

    /// Returns what the token is bound to, under the keys of kube-apiserver's `extra`.
    fn extra(&self, expected: &Expected<'_>) -> Vec<(&'static str, Box<str>)> {
        let mut extra = Vec::with_capacity(extra_key::ALL.len());
        let kubernetes = self.kubernetes.as_ref().filter(|_| !self.is_legacy(expected));
        let (Some(Object(kubernetes)), LenientString(jti)) = (kubernetes, &self.jti) else {
            return extra;
        };
        if let Some(jti) = jti {
            extra.push((extra_key::CREDENTIAL_ID, ["JTI=", jti].concat().into()));
        }
        for (object, name, uid) in [
            (&kubernetes.node, extra_key::NODE_NAME, extra_key::NODE_UID),
            (&kubernetes.pod, extra_key::POD_NAME, extra_key::POD_UID),
        ] {
            if let Some(Object(object)) = object {
                extra.push((name, (*object.name).into()));
                extra.extend(object.uid.as_deref().map(|value| (uid, value.into())));
            }
        }
        extra
    }
}

/// Converts a `NumericDate` (RFC 7519 §2), which may have a fraction. Rejects dates before 1970 and
/// beyond the clock's range.
fn numeric_date(seconds: f64) -> Result<SystemTime, RejectReason> {
    let since_epoch = Duration::try_from_secs_f64(seconds).map_err(|_| RejectReason::Malformed)?;
    UNIX_EPOCH.checked_add(since_epoch).ok_or(RejectReason::Malformed)
}

/// A string, or `None` for a value of another type, as Kubernetes reads `jti`.
#[derive(Default)]
struct LenientString<'a>(Option<Cow<'a, str>>);

impl<'de: 'a, 'a> Deserialize<'de> for LenientString<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LenientVisitor;

        impl<'de> Visitor<'de> for LenientVisitor {
            type Value = LenientString<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(LenientString(Some(Cow::Borrowed(text))))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(LenientString(Some(Cow::Owned(text.into()))))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(LenientString(None))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(LenientString(None))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(LenientString(None))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(LenientString(None))
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(LenientString(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                IgnoredAny.visit_seq(list).map(|_| LenientString(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                IgnoredAny.visit_map(map).map(|_| LenientString(None))
            }
        }

        deserializer.deserialize_any(LenientVisitor)
    }
}
