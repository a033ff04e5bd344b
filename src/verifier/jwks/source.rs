//! Where keys come from.

#[cfg(feature = "token-review")]
mod cluster;
#[cfg(feature = "http-discovery")]
mod issuer;

use std::fmt;

#[cfg(feature = "token-review")]
pub(super) use cluster::ClusterSource;
#[cfg(feature = "http-discovery")]
pub(super) use issuer::IssuerSource;

use super::{
    algorithm::Algorithm,
    key_set::{InvalidKeys, KeySet},
    loader::Loaded,
};
use crate::error::{VerifyError, VerifyErrorKind};

#[derive(Debug)]
pub(super) enum Source {
    /// The keys were given, and never change.
    Fixed,
    #[cfg(feature = "token-review")]
    Cluster(ClusterSource),
    #[cfg(feature = "http-discovery")]
    Issuer(IssuerSource),
    #[cfg(test)]
    Scripted(super::tests::ScriptedSource),
}

impl Source {
    #[cfg_attr(
        not(any(test, feature = "token-review", feature = "http-discovery")),
        expect(unused_variables, reason = "fixed keys are the only ones")
    )]
    pub(super) async fn fetch(&self, algorithms: &[Algorithm]) -> Result<Loaded, VerifyError> {
        match self {
            Self::Fixed => {
                Err(VerifyError::new(VerifyErrorKind::Aborted, "fixed keys are not fetched"))
            }
            #[cfg(feature = "token-review")]
            Self::Cluster(cluster) => cluster.fetch(algorithms).await,
            #[cfg(feature = "http-discovery")]
            Self::Issuer(issuer) => issuer.fetch(algorithms).await,
            #[cfg(test)]
            Self::Scripted(script) => script.fetch(algorithms).await,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed => f.write_str("fixed keys"),
            #[cfg(feature = "token-review")]
            Self::Cluster(_) => f.write_str("the API server"),
            #[cfg(feature = "http-discovery")]
            Self::Issuer(issuer) => f.write_str(issuer.url()),
            #[cfg(test)]
            Self::Scripted(_) => f.write_str("a script"),
        }
    }
}

/// The part of a discovery document ([OpenID Connect Discovery §3]) that counts.
///
/// [OpenID Connect Discovery §3]: https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderMetadata
#[cfg(any(feature = "token-review", feature = "http-discovery"))]
#[derive(serde::Deserialize)]
struct DiscoveryDocument {
    issuer: std::sync::Arc<str>,
    #[cfg_attr(
        not(feature = "http-discovery"),
        expect(dead_code, reason = "a cluster's is never followed")
    )]
    jwks_uri: String,
}

#[cfg(any(feature = "token-review", feature = "http-discovery"))]
fn read_discovery(json: &[u8]) -> Result<DiscoveryDocument, VerifyError> {
    let document: crate::json::Object<DiscoveryDocument> =
        serde_json::from_slice(json).map_err(|error| {
            VerifyError::new(
                VerifyErrorKind::InvalidResponse,
                "the answer is not a discovery document",
            )
            .with_source(error)
        })?;
    if document.0.issuer.is_empty() {
        // It would be the issuer of every token that names none.
        return Err(VerifyError::new(
            VerifyErrorKind::InvalidResponse,
            "the discovery document names an empty issuer",
        ));
    }
    Ok(document.0)
}

#[cfg_attr(not(any(feature = "token-review", feature = "http-discovery")), allow(dead_code))]
fn read_keys(json: &[u8], algorithms: &[Algorithm]) -> Result<KeySet, VerifyError> {
    KeySet::from_json(json, algorithms).map_err(|invalid: InvalidKeys| {
        VerifyError::new(
            VerifyErrorKind::InvalidResponse,
            format!("the issuer's keys cannot be read: {invalid}"),
        )
    })
}
