//! What the private claims of a verified token say beyond its identity.

use std::borrow::Cow;

use serde::{Deserialize, de::IgnoredAny};

use crate::{
    json::Object,
    jws::{self, CompactJws},
    token::BearerToken,
};

/// The claims of a token that has a bound form, decoded.
pub(super) struct PrivateClaims(Vec<u8>);

/// A Secret that a token is bound to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SecretReference<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) uid: Option<Cow<'a, str>>,
}

/// The private claims have a form that this version of the crate does not know.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UnknownForm;

#[derive(Deserialize)]
struct Claims<'a> {
    #[serde(borrow, rename = "kubernetes.io")]
    kubernetes: Object<Kubernetes<'a>>,
}

/// `pkg/serviceaccount/claims.go`. A member that is not listed may name a further object, which
/// kube-apiserver would check.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "named to be known")]
struct Kubernetes<'a> {
    namespace: IgnoredAny,
    serviceaccount: IgnoredAny,
    #[serde(default)]
    pod: IgnoredAny,
    #[serde(borrow)]
    secret: Option<Object<Reference<'a>>>,
    #[serde(default)]
    node: IgnoredAny,
    #[serde(default)]
    warnafter: IgnoredAny,
}

#[derive(Deserialize)]
struct Reference<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    uid: Option<Cow<'a, str>>,
}

impl PrivateClaims {
    pub(super) fn decode(token: BearerToken<'_>) -> Result<Self, UnknownForm> {
        let jws = CompactJws::split(token.expose_secret()).ok_or(UnknownForm)?;
        jws::decode(jws.claims()).map(Self).ok_or(UnknownForm)
    }

    /// Returns the Secret that the token is bound to, which an identity does not name.
    ///
    /// # Errors
    ///
    /// [`UnknownForm`] also for the legacy tokens of Secrets: kube-apiserver compares them with the
    /// Secret's data, which a watch of metadata does not show.
    pub(super) fn secret(&self) -> Result<Option<SecretReference<'_>>, UnknownForm> {
        let Object(claims) =
            serde_json::from_slice::<Object<Claims<'_>>>(&self.0).map_err(|_| UnknownForm)?;
        let Object(kubernetes) = claims.kubernetes;
        Ok(kubernetes.secret.map(|Object(Reference { name, uid })| SecretReference { name, uid }))
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::{Value, json};

    use super::*;

    fn secret(claims: &Value) -> Result<Option<(String, Option<String>)>, UnknownForm> {
        let token = format!("e30.{}.AA", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let claims = PrivateClaims::decode(BearerToken::parse(&token).unwrap())?;
        let secret = claims.secret()?;
        Ok(secret.map(|found| (found.name.into_owned(), found.uid.map(Cow::into_owned))))
    }

    #[test]
    fn the_secret_is_read_and_unknown_members_are_noticed() {
        let bound = |member: &str, value: Value| {
            let mut claims = json!({ "iss": "issuer", "kubernetes.io": {
                "namespace": "ns", "serviceaccount": { "name": "sa", "uid": "u" },
            }});
            claims["kubernetes.io"][member] = value;
            claims
        };
        let reference = json!({ "name": "a", "uid": "b" });
        for member in ["pod", "node", "warnafter"] {
            assert_eq!(secret(&bound(member, reference.clone())), Ok(None));
        }
        let expected = Some(("a".to_owned(), Some("b".to_owned())));
        assert_eq!(secret(&bound("secret", reference.clone())), Ok(expected));
        assert_eq!(secret(&bound("secret", json!({ "name": "a" }))), Ok(Some(("a".into(), None))));
        assert_eq!(secret(&bound("secret", Value::Null)), Ok(None));
        assert_eq!(secret(&bound("secret", json!(["a", "b"]))), Err(UnknownForm));
        assert_eq!(secret(&bound("configmap", reference)), Err(UnknownForm));
        let legacy = json!({ "kubernetes.io/serviceaccount/secret.name": "sa-token" });
        assert_eq!(secret(&legacy), Err(UnknownForm));
    }
}
