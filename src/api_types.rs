//! The Kubernetes API objects that this crate sends and reads, with the fields it needs.
//!
//! Not those of `k8s-openapi`, because a library must not choose its one version feature for its
//! users, and the field types differ between versions. Unknown fields are ignored, so that
//! responses of newer servers are valid.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    identity::{ServiceAccountIdentity, UserInfo, or_default},
    json::Object,
};

/// `authentication.k8s.io/v1` `TokenReview`, as sent. Has no `Debug`: it holds the token.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TokenReviewRequest<'a> {
    api_version: &'static str,
    kind: &'static str,
    spec: TokenReviewSpec<'a>,
}

#[derive(Serialize)]
struct TokenReviewSpec<'a> {
    token: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    audiences: &'a [Arc<str>],
}

impl<'a> TokenReviewRequest<'a> {
    pub(crate) fn new(token: &'a str, audiences: &'a [Arc<str>]) -> Self {
        Self {
            api_version: "authentication.k8s.io/v1",
            kind: "TokenReview",
            spec: TokenReviewSpec { token, audiences },
        }
    }
}

/// `authentication.k8s.io/v1` `TokenReview`, as received. Without the `spec`, which repeats
/// the token.
#[derive(Deserialize)]
pub(crate) struct TokenReviewResponse {
    pub(crate) status: Object<TokenReviewStatus>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct TokenReviewStatus {
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) authenticated: bool,
    #[serde(default, deserialize_with = "object_or_default")]
    pub(crate) user: UserInfo,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) audiences: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) error: String,
}

/// `authorization.k8s.io/v1` `SubjectAccessReview`, as sent. `R` and `P` are the attributes of an
/// access to a resource and to a path.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SubjectAccessReviewRequest<'a, R, P> {
    api_version: &'static str,
    kind: &'static str,
    spec: SubjectAccessReviewSpec<'a, R, P>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SubjectAccessReviewSpec<'a, R, P> {
    user: &'a str,
    uid: &'a str,
    groups: Vec<&'a str>,
    extra: BTreeMap<&'a str, Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_attributes: Option<&'a R>,
    #[serde(skip_serializing_if = "Option::is_none")]
    non_resource_attributes: Option<&'a P>,
}

impl<'a, R, P> SubjectAccessReviewRequest<'a, R, P> {
    pub(crate) fn new(
        caller: &'a ServiceAccountIdentity,
        resource_attributes: Option<&'a R>,
        non_resource_attributes: Option<&'a P>,
    ) -> Self {
        Self {
            api_version: "authorization.k8s.io/v1",
            kind: "SubjectAccessReview",
            spec: SubjectAccessReviewSpec {
                user: caller.username(),
                uid: caller.uid(),
                groups: caller.groups().collect(),
                extra: caller.extra().map(|(key, values)| (key, values.collect())).collect(),
                resource_attributes,
                non_resource_attributes,
            },
        }
    }
}

/// `authorization.k8s.io/v1` `SubjectAccessReview`, as received.
#[derive(Deserialize)]
pub(crate) struct SubjectAccessReviewResponse {
    pub(crate) status: Object<SubjectAccessReviewStatus>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SubjectAccessReviewStatus {
    /// Required, as in Kubernetes' API: every API server writes it, `false` too. Go's client reads
    /// a missing one as `false`; here, what an API server never sends decides nothing.
    pub(crate) allowed: bool,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) denied: bool,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) reason: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) evaluation_error: String,
}

/// `authentication.k8s.io/v1` `TokenRequest`, as sent.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TokenRequest<'a> {
    pub(crate) api_version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) spec: TokenRequestSpec<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TokenRequestSpec<'a> {
    pub(crate) audiences: &'a [Arc<str>],
    pub(crate) expiration_seconds: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bound_object_ref: Option<ObjectRef<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ObjectRef<'a> {
    pub(crate) api_version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uid: Option<&'a str>,
}

/// `authentication.k8s.io/v1` `TokenRequest`, as received. Has no `Debug`: it holds the token.
#[derive(Deserialize)]
pub(crate) struct TokenRequestResponse {
    #[serde(default)]
    pub(crate) spec: GrantedSpec,
    pub(crate) status: TokenRequestStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GrantedSpec {
    /// The granted lifetime, which may be shorter than the requested one.
    #[serde(default)]
    pub(crate) expiration_seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TokenRequestStatus {
    pub(crate) token: String,
    /// RFC 3339.
    pub(crate) expiration_timestamp: String,
}

/// `v1` `Status`: the body of an error response.
#[derive(Debug, Deserialize)]
pub(crate) struct Status {
    #[serde(default)]
    pub(crate) message: String,
}

/// [`or_default`] for an object: accepts an object or `null`, and not a list of its fields.
fn object_or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    let object = Option::<Object<T>>::deserialize(deserializer)?;
    Ok(object.map(|Object(value)| value).unwrap_or_default())
}
