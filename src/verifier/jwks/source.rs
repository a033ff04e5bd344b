//! The sources of keys.

mod cluster;
mod discovery;
mod file;
#[cfg(feature = "http-discovery")]
mod issuer;

use std::fmt;

pub(super) use cluster::ClusterSource;
pub(super) use file::{FileSource, read_given};
#[cfg(feature = "http-discovery")]
pub(super) use issuer::IssuerSource;

use super::{algorithm::Algorithm, key_snapshot::LoadedKeys};
use crate::error::{VerifyError, VerifyErrorKind};

#[derive(Debug)]
pub(super) enum Source {
    /// The keys are given and never change.
    Fixed,
    Cluster(ClusterSource),
    File(FileSource),
    #[cfg(feature = "http-discovery")]
    Issuer(IssuerSource),
    #[cfg(test)]
    Scripted(super::tests::ScriptedSource),
}

impl Source {
    pub(super) async fn fetch(&self, algorithms: &[Algorithm]) -> Result<LoadedKeys, VerifyError> {
        match self {
            Self::Fixed => {
                Err(VerifyError::new(VerifyErrorKind::Aborted, "fixed keys are not fetched"))
            }
            Self::Cluster(cluster) => cluster.fetch(algorithms).await,
            Self::File(file) => file.fetch(algorithms).await,
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
            Self::File(file) => write!(f, "the file {}", file.path().display()),
            #[cfg(feature = "http-discovery")]
            Self::Issuer(issuer) => f.write_str(issuer.url()),
            #[cfg(test)]
            Self::Scripted(_) => f.write_str("a script"),
        }
    }
}
