//! The origins of keys: fetched from the API server or an issuer, or given.

use std::{path::PathBuf, sync::Arc};

#[cfg(feature = "http-discovery")]
use super::source::IssuerSource;
use super::{
    algorithm::Algorithm,
    build_error::JwksBuildError,
    key_set::KeySet,
    loader::{Freshness, Loader},
    source::{ClusterSource, Source},
};
use crate::{api_server::ApiServer, clock::Clock};

pub(super) enum KeyOrigin {
    Cluster(ApiServer),
    #[cfg(feature = "http-discovery")]
    Issuer(String),
    JwkSet(String),
    JwkSetFile(PathBuf),
    Pem(String),
    #[cfg(test)]
    Scripted(super::tests::ScriptedSource),
}

/// The options that a loader depends on.
pub(super) struct LoaderOptions<'a> {
    pub(super) algorithms: &'a Arc<[Algorithm]>,
    pub(super) freshness: Freshness,
    pub(super) clock: Clock,
    /// Whether the issuer is the one that discovery names.
    pub(super) learn_issuer: bool,
    /// CA certificates in PEM. Empty for those of the platform.
    #[cfg(feature = "http-discovery")]
    pub(super) roots: &'a [Vec<u8>],
}

impl KeyOrigin {
    /// Whether the keys are given, so that no discovery document names their issuer.
    pub(super) fn is_given(&self) -> bool {
        matches!(self, Self::JwkSet(_) | Self::JwkSetFile(_) | Self::Pem(_))
    }

    /// Reads given keys. Keys that must be fetched are not fetched yet.
    pub(super) fn into_loader(self, options: LoaderOptions<'_>) -> Result<Loader, JwksBuildError> {
        let LoaderOptions { algorithms, freshness, clock, learn_issuer, .. } = options;
        let source = match self {
            Self::Cluster(api_server) => Source::Cluster(ClusterSource::new(
                api_server,
                freshness.fetch_timeout,
                clock.clone(),
                learn_issuer,
            )),
            #[cfg(feature = "http-discovery")]
            Self::Issuer(issuer) => {
                Source::Issuer(IssuerSource::new(issuer, options.roots, freshness.fetch_timeout)?)
            }
            Self::JwkSet(json) => {
                let keys = read_jwk_set(json.as_bytes(), algorithms)?;
                return Ok(Loader::fixed(keys, Arc::clone(algorithms), freshness, clock));
            }
            Self::JwkSetFile(path) => {
                let json = std::fs::read(&path)
                    .map_err(|error| JwksBuildError::File { path, why: error.to_string() })?;
                let keys = read_jwk_set(&json, algorithms)?;
                return Ok(Loader::fixed(keys, Arc::clone(algorithms), freshness, clock));
            }
            Self::Pem(pem) => {
                let keys = KeySet::from_pem(pem.as_bytes(), algorithms)
                    .map_err(|invalid| JwksBuildError::Keys(invalid.to_string()))?;
                return Ok(Loader::fixed(keys, Arc::clone(algorithms), freshness, clock));
            }
            #[cfg(test)]
            Self::Scripted(script) => Source::Scripted(script),
        };
        Ok(Loader::new(source, Arc::clone(algorithms), freshness, clock))
    }
}

/// Reads a given JWK Set. Unlike a fetched one it never changes, so it must have a usable key.
fn read_jwk_set(json: &[u8], algorithms: &[Algorithm]) -> Result<KeySet, JwksBuildError> {
    let keys = KeySet::from_json(json, algorithms)
        .map_err(|invalid| JwksBuildError::Keys(invalid.to_string()))?;
    if keys.len() == 0 {
        return Err(JwksBuildError::Keys("the JWK Set has no key".into()));
    }
    Ok(keys)
}
