//! The origins of keys: fetched from the API server or an issuer, read from a file, or given.

use std::{path::PathBuf, sync::Arc};

#[cfg(feature = "http-discovery")]
use super::source::IssuerSource;
use super::{
    algorithm::Algorithm,
    build_error::JwksBuildError,
    key_set::KeySet,
    loader::{Freshness, Loader},
    source::{ClusterSource, FileSource, Source, read_given},
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
    /// Whether no discovery document names the issuer of the keys.
    pub(super) fn needs_issuer(&self) -> bool {
        self.is_given() || matches!(self, Self::JwkSetFile(_))
    }

    /// Whether the keys never change.
    pub(super) fn is_given(&self) -> bool {
        matches!(self, Self::JwkSet(_) | Self::Pem(_))
    }

    /// Reads given keys and files. Keys that must be fetched are not fetched yet.
    pub(super) fn into_loader(self, options: LoaderOptions<'_>) -> Result<Loader, JwksBuildError> {
        let LoaderOptions { algorithms, freshness, clock, learn_issuer, .. } = options;
        let with_keys = |source, keys| {
            Loader::with_keys(source, keys, Arc::clone(algorithms), freshness, clock.clone())
        };
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
                let keys = read_given(&json, algorithms)?;
                return Ok(with_keys(Source::Fixed, keys));
            }
            Self::JwkSetFile(path) => {
                let file = FileSource::new(path);
                let keys = file.read(algorithms)?;
                return Ok(with_keys(Source::File(file), keys));
            }
            Self::Pem(pem) => {
                let keys = KeySet::from_pem(pem.as_bytes(), algorithms)
                    .map_err(|invalid| JwksBuildError::Keys(invalid.to_string()))?;
                return Ok(with_keys(Source::Fixed, keys));
            }
            #[cfg(test)]
            Self::Scripted(script) => Source::Scripted(script),
        };
        Ok(Loader::new(source, Arc::clone(algorithms), freshness, clock))
    }
}
