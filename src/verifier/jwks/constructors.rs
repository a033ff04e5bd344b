//! The constructors of [`JwksVerifier`], one for each origin of keys.

use std::path::PathBuf;

use super::{builder::JwksBuilder, key_origin::KeyOrigin, verifier::JwksVerifier};
use crate::api_server::ApiServer;

impl JwksVerifier {
    /// Fetches the keys from `api_server`, at `/openid/v1/jwks`. Unless an
    /// [`issuer`](JwksBuilder::issuer) is set, the issuer is the one in
    /// `/.well-known/openid-configuration`.
    ///
    /// This service's own ServiceAccount needs the ClusterRole
    /// `system:service-account-issuer-discovery`, which every ServiceAccount has by default. The
    /// advertised `jwks_uri` is never followed.
    pub fn in_cluster(api_server: impl Into<ApiServer>) -> JwksBuilder {
        JwksBuilder::new(KeyOrigin::Cluster(api_server.into()))
    }

    /// Fetches the keys from an issuer outside of the cluster, by [OpenID Connect Discovery] over
    /// HTTPS. This service's own token is not sent there.
    ///
    /// [OpenID Connect Discovery]: https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderConfig
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tower_kube_auth::JwksVerifier;
    ///
    /// let verifier = JwksVerifier::discover("https://oidc.example.org/clusters/a").build()?;
    /// assert!(JwksVerifier::discover("http://oidc.example.org").build().is_err());
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "http-discovery")]
    pub fn discover(issuer: impl Into<String>) -> JwksBuilder {
        let issuer = issuer.into();
        JwksBuilder::new(KeyOrigin::Issuer(issuer.clone())).issuer(issuer)
    }

    /// Uses the keys of a JWK Set ([RFC 7517 §5]), which never change.
    ///
    /// [RFC 7517 §5]: https://www.rfc-editor.org/rfc/rfc7517#section-5
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tower_kube_auth::{JwksVerifier, testing::Cluster};
    ///
    /// let cluster = Cluster::start().await?;
    /// let verifier = JwksVerifier::from_jwks(cluster.jwks_json()).issuer(cluster.issuer()).build()?;
    /// # Ok(()) }
    /// ```
    pub fn from_jwks(json: impl Into<String>) -> JwksBuilder {
        JwksBuilder::new(KeyOrigin::JwkSet(json.into()))
    }

    /// Uses the keys of a JWK Set in a file, of a mounted ConfigMap for instance.
    ///
    /// [`build`](JwksBuilder::build) reads it, and fails if there is no usable key. The file is
    /// read again with [`refresh_interval`](JwksBuilder::refresh_interval), and at once for a token
    /// with an unknown key id, at most once in
    /// [`unknown_key_cooldown`](JwksBuilder::unknown_key_cooldown). So keys can be added and
    /// removed without a restart. While the file cannot be read or has no usable key, the last keys
    /// stay in use and the log says why.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tower_kube_auth::{JwksVerifier, testing::Cluster};
    ///
    /// let cluster = Cluster::start().await?;
    /// # let path = std::env::temp_dir().join(format!("{}.jwks.json", std::process::id()));
    /// std::fs::write(&path, cluster.jwks_json())?;
    /// let verifier = JwksVerifier::from_jwks_file(&path).issuer(cluster.issuer()).build()?;
    /// cluster.rotate()?;
    /// std::fs::write(&path, cluster.jwks_json())?;
    /// verifier.refresh().await?; // otherwise the first token of the new key does it
    /// assert_eq!(verifier.metrics().keys, 2);
    /// # std::fs::remove_file(path)?;
    /// # Ok(()) }
    /// ```
    pub fn from_jwks_file(path: impl Into<PathBuf>) -> JwksBuilder {
        JwksBuilder::new(KeyOrigin::JwkSetFile(path.into()))
    }

    /// Uses the `PUBLIC KEY` blocks of a PEM text, which never change. Each key gets the key id
    /// that kube-apiserver gives it.
    pub fn from_pem(pem: impl Into<String>) -> JwksBuilder {
        JwksBuilder::new(KeyOrigin::Pem(pem.into()))
    }
}
