//! `kube` clients for the cluster, each somebody: through real TLS, with a real credential.

use std::time::Duration;

use kube::config::AuthInfo;
use rustls::crypto::{CryptoProvider, aws_lc_rs};

use crate::testing::{cluster::Cluster, error::ClusterError};

pub(in crate::testing) const ADMIN_TOKEN_PREFIX: &str = "admin-";

/// The ServiceAccount of [`Cluster::VERIFIER`].
pub(in crate::testing) const VERIFIER: (&str, &str) = ("kube-auth", "verifier");

/// Clients.
impl Cluster {
    /// The user that [`kube_client`](Self::kube_client) acts as: to take its rights away, for one.
    pub const VERIFIER: &str = "system:serviceaccount:kube-auth:verifier";

    /// A client for the code under test: it acts as [`VERIFIER`](Self::VERIFIER), a ServiceAccount that may review
    /// tokens and access (`system:auth-delegator`), read the issuer's keys, and nothing else.
    ///
    /// ```
    /// use tower_kube_auth::testing::Cluster;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cluster = Cluster::start().await?;
    /// let client = cluster.kube_client()?;
    /// let keys = client.request_text(http::Request::get("/openid/v1/jwks").body(Vec::new())?).await?;
    /// assert_eq!(keys, cluster.jwks_json());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// If the client cannot be built.
    pub fn kube_client(&self) -> Result<kube::Client, ClusterError> {
        client(self.kube_config()?)
    }

    /// The configuration of [`kube_client`](Self::kube_client).
    ///
    /// # Errors
    /// If the token cannot be issued, as when the ServiceAccount was deleted.
    pub fn kube_config(&self) -> Result<kube::Config, ClusterError> {
        let (namespace, name) = VERIFIER;
        // Long enough for a test that moves its clock by months.
        let token = self
            .token(namespace, name)
            .expires_in(Duration::from_secs(10 * 365 * 86_400))
            .issue()?;
        Ok(self.kube_config_for(token))
    }

    /// A client that may do everything: the static-token user `admin` of the group `system:masters`.
    ///
    /// # Errors
    /// If the client cannot be built.
    pub fn admin_client(&self) -> Result<kube::Client, ClusterError> {
        self.client_for(self.admin_token())
    }

    /// The token of [`admin_client`](Self::admin_client), which is not a ServiceAccount's.
    #[must_use]
    pub fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// A client that sends `token`, whatever it is.
    ///
    /// # Errors
    /// If the client cannot be built.
    pub fn client_for(&self, token: impl Into<String>) -> Result<kube::Client, ClusterError> {
        client(self.kube_config_for(token))
    }

    /// The configuration of [`client_for`](Self::client_for).
    #[must_use]
    pub fn kube_config_for(&self, token: impl Into<String>) -> kube::Config {
        let mut config = self.config_without_credential();
        config.auth_info = AuthInfo { token: Some(token.into().into()), ..AuthInfo::default() };
        config
    }

    /// The configuration of a Pod into which `volume` is mounted, a folder that
    /// [`write_projected_volume`](Self::write_projected_volume) made. The client re-reads the token as it would in
    /// the Pod.
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

    /// A client that sends no credential at all: `system:anonymous`.
    ///
    /// # Errors
    /// If the client cannot be built.
    pub fn anonymous_client(&self) -> Result<kube::Client, ClusterError> {
        client(self.config_without_credential())
    }

    fn config_without_credential(&self) -> kube::Config {
        // `kube` takes rustls' process-wide provider; where features leave rustls two to choose from, it panics
        // unless one was installed. A provider that somebody installed before stays.
        if CryptoProvider::get_default().is_none() {
            let _ = aws_lc_rs::default_provider().install_default();
        }
        let mut config = kube::Config::new(self.uri());
        config.root_cert = Some(vec![self.authority.der.clone()]);
        // Proxy variables of the machine are not for loopback.
        config.proxy_url = None;
        config
    }

    fn uri(&self) -> http::Uri {
        let address = self.address().to_string();
        let uri =
            http::Uri::builder().scheme("https").authority(address).path_and_query("/").build();
        // An address is always an authority.
        uri.unwrap_or_default()
    }
}

fn client(config: kube::Config) -> Result<kube::Client, ClusterError> {
    kube::Client::try_from(config)
        .map_err(|error| ClusterError::new("cannot build a client", error))
}
