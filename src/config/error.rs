//! The error of a configuration that cannot be used.

use std::{error::Error, fmt};

/// Why [`AuthConfig::build`](super::AuthConfig::build) fails: the field, the problem and the
/// remedy.
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_kube_auth::{config::AuthConfig, testing::Cluster};
///
/// let config: AuthConfig = serde_json::from_value(serde_json::json!({
///     "audiences": [{ "name": "orders", "rule": { "allow_list": ["shop/checkout", "shop"] } }],
/// }))?;
/// let error = config.build(Cluster::start().await?.kube_client()?).await.unwrap_err();
/// assert_eq!(error.path(), "audiences[0].rule.allow_list[1]");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthConfigError {
    path: String,
    problem: String,
}

impl AuthConfigError {
    pub(super) fn new(path: impl Into<String>, problem: impl fmt::Display) -> Self {
        Self { path: path.into(), problem: problem.to_string() }
    }

    /// Returns the path of the field within the [`AuthConfig`](super::AuthConfig), such as
    /// `verifier.jwks.issuer`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for AuthConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}

impl Error for AuthConfigError {}
