//! Error of the operations on a cluster.

use std::{error::Error, fmt};

use super::status::Status;

/// An operation on the cluster failed. The message says which and why.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cluster = tower_kube_auth::testing::Cluster::start().await?;
/// let error = cluster.token("default", "nobody").issue().unwrap_err();
/// assert_eq!(error.status(), Some(404));
/// assert_eq!(error.to_string(), r#"serviceaccounts "nobody" not found"#);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct ClusterError {
    what: String,
    status: Option<u16>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl ClusterError {
    pub(super) fn new(
        what: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { what: what.into(), status: None, source: Some(source.into()) }
    }

    /// Returns the HTTP status with which the API server answers such a request, if it rejects the
    /// request.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.status
    }
}

impl From<Status> for ClusterError {
    fn from(status: Status) -> Self {
        Self { what: status.message, status: Some(status.code.as_u16()), source: None }
    }
}

impl fmt::Display for ClusterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl Error for ClusterError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
