//! `kube` clients for the cluster with TLS and the credentials of different users.

use std::time::Duration;

use kube::config::AuthInfo;
use rustls::crypto::{CryptoProvider, aws_lc_rs};

use crate::testing::{cluster::Cluster, error::ClusterError};

pub(in crate::testing) const ADMIN_TOKEN_PREFIX: &str = "admin-";

/// The ServiceAccount of [`Cluster::VERIFIER`].
pub(in crate::testing) const VERIFIER: (&str, &str) = ("kube-auth", "verifier");

/// Clients.
impl Cluster {
    /// The user of [`kube_client`](Self::kube_client), for example to revoke its permissions.
    pub const VERIFIER: &str = "system:serviceaccount:kube-auth:verifier";

    /// Returns a client for the code under test. It acts as [`VERIFIER`](Self::VERIFIER), a
    /// ServiceAccount that may only review tokens and access (`system:auth-delegator`) and read the
    /// issuer's keys.
    ///
    /// ```
    /// use tower_kube_auth::testing::Cluster;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cluster = Cluster::start().await?;
    /// let client = cluster.kube_client()?;
    /// let request = http::Request::get("/openid/v1/jwks").body(Vec::new())?;
    /// let keys = client.request_text(request).await?;
    /// assert_eq!(keys, cluster.jwks_json());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// If the client cannot be built.
    pub fn kube_client(&self) -> Result<kube::Client, ClusterError> {
        client(self.kube_config()?)
    }

    /// Returns the configuration of [`kube_client`](Self::kube_client).
    ///
    /// # Errors
    /// If the token cannot be issued, for example because the ServiceAccount was deleted.
    pub fn kube_config(&self) -> Result<kube::Config, ClusterError> {
        let (namespace, name) = VERIFIER;
        // Long enough for tests that move the clock by months.
        let token = self
            .token(namespace, name)
            .expires_in(Duration::from_secs(10 * 365 * 86_400))
            .issue()?;
        Ok(self.kube_config_for(token))
    }

    /// Returns a client with all permissions: the static-token user `admin` of the group
    /// `system:masters`.
    ///
    /// # Errors
    /// If the client cannot be built.
    pub fn admin_client(&self) -> Result<kube::Client, ClusterError> {
        self.client_for(self.admin_token())
    }

    /// Returns the token of [`admin_client`](Self::admin_client). Its user is not a ServiceAccount.
    #[must_use]
    pub fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// Returns a client that sends `token`.
    ///
    /// # Errors
    /// If the client cannot be built.
    pub fn client_for(&self, token: impl Into<String>) -> Result<kube::Client, ClusterError> {
        client(self.kube_config_for(token))
    }

    /// Returns the configuration of [`client_for`](Self::client_for).
    #[must_use]
    pub fn kube_config_for(&self, token: impl Into<String>) -> kube::Config {
        let mut config = self.config_without_credential();
        config.auth_info = AuthInfo { token: Some(token.into().into()), ..AuthInfo::default() };
        config
    }

    /// Returns the configuration for a Pod with the mounted `volume`, a folder written by
    /// [`write_projected_volume`](Self::write_projected_volume). The client re-reads the token as
    /// in a Pod.
    #[must_use]
    pub fn kube_config_in_pod(&self, volume: &std::path::Path) -> kube::Config {
        let mut config = self.config_without_credential();
        config.root_cert = None;
        config.root_cert_file = Some(volume.join("ca.crt"));
        let token_file = volume.join("token").to_string_lossy().into_owned();
        config.auth_info = AuthInfo { token_file: Some(token_file), ..AuthInfo::default() };
        if let Ok(namespace) = std::fs::read_to_string(volume.join("namespace")) {
            config.default_namespace = namespace;
        }
        config
    }

    /// Returns a client without a credential: `system:anonymous`.
    ///
    /// # Errors
    /// If the client cannot be built.
    pub fn anonymous_client(&self) -> Result<kube::Client, ClusterError> {
        client(self.config_without_credential())
    }

    fn config_without_credential(&self) -> kube::Config {
        // `kube` uses rustls' process-wide provider, and panics if features enable two and none is
        // installed. An installed provider stays.
        if CryptoProvider::get_default().is_none() {
            let _ = aws_lc_rs::default_provider().install_default();
        }
        let mut config = kube::Config::new(self.uri());
        config.root_cert = Some(vec![self.authority.der.clone()]);
        // Proxy variables of the environment must not apply to loopback.
        config.proxy_url = None;
        config
    }

    fn uri(&self) -> http::Uri {
        let address = self.address().to_string();
        let uri =
            http::Uri::builder().scheme("https").authority(address).path_and_query("/").build();
        // A socket address is always a valid authority.
        uri.unwrap_or_default()
    }
}

fn client(config: kube::Config) -> Result<kube::Client, ClusterError> {
    kube::Client::try_from(config)
        .map_err(|error| ClusterError::new("cannot build a client", error))
}
