//! Signing keys and their rotation.

use crate::testing::{
    algorithm::Algorithm, cluster::Cluster, error::ClusterError, keys::SigningKey, lock::lock,
};

/// Keys and their rotation.
impl Cluster {
    /// Returns the key that signs tokens.
    #[must_use]
    pub fn signing_key(&self) -> SigningKey {
        lock(&self.state.keys).signing()
    }

    /// Returns the public key of [`signing_key`](Self::signing_key) as PEM.
    #[must_use]
    pub fn public_key_pem(&self) -> String {
        self.signing_key().public_key_pem()
    }

    /// Returns the JWKS document as served.
    #[must_use]
    pub fn jwks_json(&self) -> String {
        lock(&self.state.keys).jwks()
    }

    /// First step of a rotation: publishes and accepts a new key without signing with it.
    ///
    /// ```
    /// use tower_kube_auth::testing::{Algorithm, Cluster};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cluster = Cluster::start().await?;
    /// let old = cluster.signing_key();
    /// let new = cluster.add_key(Algorithm::ES256)?;
    /// assert_eq!(cluster.signing_key().kid(), old.kid());
    /// cluster.sign_with_newest();
    /// assert_eq!(cluster.signing_key().kid(), new.kid());
    /// cluster.remove_old_keys();
    /// assert!(!cluster.jwks_json().contains(old.kid()));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// If no key can be generated.
    pub fn add_key(&self, algorithm: Algorithm) -> Result<SigningKey, ClusterError> {
        let key = SigningKey::generate(algorithm)?;
        lock(&self.state.keys).add(key.clone());
        Ok(key)
    }

    /// Second step of a rotation: signs with the newest key. The older ones stay published and
    /// accepted.
    pub fn sign_with_newest(&self) {
        lock(&self.state.keys).sign_with_newest();
    }

    /// Last step of a rotation: removes every key except the signing one; their tokens are
    /// rejected.
    pub fn remove_old_keys(&self) {
        lock(&self.state.keys).remove_old();
    }

    /// Publishes and signs with a new key of the same algorithm. The older keys stay accepted.
    ///
    /// # Errors
    /// If no key can be generated.
    pub fn rotate(&self) -> Result<SigningKey, ClusterError> {
        let key = self.add_key(self.signing_key().algorithm())?;
        self.sign_with_newest();
        Ok(key)
    }

    /// Removes a key from the JWKS. Its tokens pass TokenReview but cannot be verified offline, as
    /// with Kubernetes' external signers.
    pub fn hide_from_discovery(&self, key: &SigningKey) {
        lock(&self.state.keys).hide(key.kid());
    }

    /// Serves `raw` as the JWKS document; `None` restores the actual one.
    pub fn publish_jwks(&self, raw: Option<String>) {
        lock(&self.state.keys).override_jwks(raw);
    }
}
