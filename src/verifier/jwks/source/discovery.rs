//! The documents that a source fetches: discovery document and JWK Set.

use std::sync::Arc;

use serde::Deserialize;

use crate::{
    error::{VerifyError, VerifyErrorKind},
    json::{Object, ReadError},
    verifier::jwks::{
        algorithm::Algorithm,
        key_set::{InvalidKeys, KeySet},
    },
};

/// The fields of a discovery document ([OpenID Connect Discovery §3]) that are used.
///
/// [OpenID Connect Discovery §3]: https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderMetadata
#[derive(Deserialize)]
pub(super) struct DiscoveryDocument {
    pub(super) issuer: Arc<str>,
    #[cfg_attr(
        not(feature = "http-discovery"),
        expect(dead_code, reason = "a cluster's jwks_uri is never followed")
    )]
    pub(super) jwks_uri: String,
}

pub(super) fn read_discovery(json: &[u8]) -> Result<DiscoveryDocument, VerifyError> {
    let document: Object<DiscoveryDocument> =
        serde_json::from_slice(json).map_err(ReadError::from).map_err(|error| {
            let message = "the answer is not a discovery document";
            VerifyError::new(VerifyErrorKind::InvalidResponse, message).with_source(error)
        })?;
    if document.0.issuer.is_empty() {
        // It would match every token without an issuer.
        return Err(VerifyError::new(
            VerifyErrorKind::InvalidResponse,
            "the discovery document names an empty issuer",
        ));
    }
    Ok(document.0)
}

pub(super) fn read_keys(json: &[u8], algorithms: &[Algorithm]) -> Result<KeySet, VerifyError> {
    KeySet::from_json(json, algorithms).map_err(|invalid: InvalidKeys| {
        VerifyError::new(
            VerifyErrorKind::InvalidResponse,
            format!("the issuer's keys cannot be read: {invalid}"),
        )
    })
}
