//! The axum extractors of the identity.

use std::sync::Arc;

use axum_core::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    response::{IntoResponse, Response},
};
use http::{StatusCode, request::Parts};

use super::{rejection::Rejection, response::http_response, service::Anonymous};
use crate::{clock::Clock, identity::ServiceAccountIdentity, warn_limit::WarnLimit};

/// Extracts the verified caller.
///
/// Behind an [`optional`](super::AuthenticateLayer::optional) layer, rejects a request without a
/// token with 401; take `Option<ServiceAccountIdentity>` to let it through. Without any layer, the
/// response is 500 and an error is logged.
impl<S: Send + Sync> FromRequestParts<S> for ServiceAccountIdentity {
    type Rejection = IdentityRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        match parts.extensions.get::<Self>() {
            Some(identity) => Ok(identity.clone()),
            None => Err(absent(parts)),
        }
    }
}

/// Extracts the verified caller, or `None` if an
/// [`optional`](super::AuthenticateLayer::optional) layer let a request without a token through.
impl<S: Send + Sync> OptionalFromRequestParts<S> for ServiceAccountIdentity {
    type Rejection = IdentityRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Self::Rejection> {
        match parts.extensions.get::<Self>() {
            Some(identity) => Ok(Some(identity.clone())),
            None => match absent(parts) {
                IdentityRejection::Anonymous { .. } => Ok(None),
                missing @ IdentityRejection::MissingLayer => Err(missing),
            },
        }
    }
}

fn absent(parts: &Parts) -> IdentityRejection {
    match parts.extensions.get::<Anonymous>() {
        Some(Anonymous { realm }) => IdentityRejection::Anonymous { realm: realm.clone() },
        None => IdentityRejection::MissingLayer,
    }
}

/// Why a [`ServiceAccountIdentity`] cannot be extracted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdentityRejection {
    /// An optional layer let the request through without a token, but the handler requires one:
    /// 401.
    Anonymous {
        /// The realm of the challenge.
        realm: Arc<str>,
    },
    /// The route has no layer: 500, because it is a bug in the service.
    MissingLayer,
}

impl IntoResponse for IdentityRejection {
    fn into_response(self) -> Response {
        match self {
            Self::Anonymous { realm } => {
                let rejection = Rejection::MissingToken;
                http_response(&rejection, Some(&*realm)).map(|()| rejection.body_text().into())
            }
            Self::MissingLayer => {
                static LIMIT: WarnLimit = WarnLimit::new();
                if let Some(suppressed) = LIMIT.admit("missing_layer", Clock::system().monotonic())
                {
                    tracing::error!(
                        suppressed,
                        "a handler extracts a ServiceAccountIdentity, but its route has no \
                     AuthenticateLayer: add .layer(authenticator.layer()) after the route"
                    );
                }
                (StatusCode::INTERNAL_SERVER_ERROR, "authentication is not set up").into_response()
            }
        }
    }
}

impl std::fmt::Display for IdentityRejection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Anonymous { .. } => "there is no bearer token",
            Self::MissingLayer => "the route has no AuthenticateLayer",
        })
    }
}

impl std::error::Error for IdentityRejection {}
