//! The Kubernetes API objects that we send and read, as far as we need them.
//!
//! Our own, because a library must not choose the one version feature of `k8s-openapi` for its users, and the field types
//! there differ between versions. Unknown fields are ignored, so newer servers are understood.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::identity::UserInfo;

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

/// `authentication.k8s.io/v1` `TokenReview`, as answered. The `spec`, which repeats the token, is not read.
#[derive(Deserialize)]
pub(crate) struct TokenReviewResponse {
    pub(crate) status: TokenReviewStatus,
}

#[derive(Debug, Deserialize)]
pub(crate) struct TokenReviewStatus {
    #[serde(default)]
    pub(crate) authenticated: bool,
    #[serde(default)]
    pub(crate) user: UserInfo,
    #[serde(default)]
    pub(crate) audiences: Vec<String>,
    #[serde(default)]
    pub(crate) error: String,
}

/// `v1` `Status`: how the API server words a refusal.
#[derive(Debug, Deserialize)]
pub(crate) struct Status {
    #[serde(default)]
    pub(crate) message: String,
}
