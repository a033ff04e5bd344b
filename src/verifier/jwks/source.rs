//! Where keys come from.

mod cluster;
#[cfg(feature = "http-discovery")]
mod issuer;

use std::fmt;

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
    Cluster(ClusterSource),
    #[cfg(feature = "http-discovery")]
    Issuer(IssuerSource),
    #[cfg(test)]
    Scripted(super::tests::ScriptedSource),
}

impl Source {
    pub(super) async fn fetch(&self, algorithms: &[Algorithm]) -> Result<Loaded, VerifyError> {
        match self {
            Self::Fixed => {
                Err(VerifyError::new(VerifyErrorKind::Aborted, "fixed keys are not fetched"))
            }
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
#[derive(serde::Deserialize)]
struct DiscoveryDocument {
    issuer: std::sync::Arc<str>,
    #[cfg_attr(
        not(feature = "http-discovery"),
        expect(dead_code, reason = "a cluster's is never followed")
    )]
    jwks_uri: String,
}

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

fn read_keys(json: &[u8], algorithms: &[Algorithm]) -> Result<KeySet, VerifyError> {
    KeySet::from_json(json, algorithms).map_err(|invalid: InvalidKeys| {
        VerifyError::new(
            VerifyErrorKind::InvalidResponse,
            format!("the issuer's keys cannot be read: {invalid}"),
        )
    })
}
