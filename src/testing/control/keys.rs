//! Signing keys and their rotation.

use crate::testing::{
    algorithm::Algorithm, cluster::Cluster, error::ClusterError, keys::SigningKey, lock::lock,
};

/// Keys and their rotation.
impl Cluster {
    /// The key that signs tokens now.
    #[must_use]
    pub fn signing_key(&self) -> SigningKey {
        lock(&self.state.keys).signing()
    }

    /// The PEM of the public key that belongs to [`signing_key`](Self::signing_key).
    #[must_use]
    pub fn public_key_pem(&self) -> String {
        self.signing_key().public_key_pem()
    }

    /// The JWKS document as it is served.
    #[must_use]
    pub fn jwks_json(&self) -> String {
        lock(&self.state.keys).jwks()
    }

    /// First step of a rotation: a new key is published and accepted, but does not sign yet.
    ///
    /// ```
    /// use tower_kube_auth::testing::{Algorithm, Cluster};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
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

    /// Second step of a rotation: the newest key signs from now on; the older ones are still published and accepted.
    pub fn sign_with_newest(&self) {
        lock(&self.state.keys).sign_with_newest();
    }

    /// Last step of a rotation: every key but the signing one is forgotten, and its tokens are refused.
    pub fn remove_old_keys(&self) {
        lock(&self.state.keys).remove_old();
    }

    /// A rotation in one go: a new key of the same algorithm is published and signs; the older ones are still accepted.
    ///
    /// # Errors
    /// If no key can be generated.
    pub fn rotate(&self) -> Result<SigningKey, ClusterError> {
        let key = self.add_key(self.signing_key().algorithm())?;
        self.sign_with_newest();
        Ok(key)
    }

    /// Keeps a key out of the JWKS: its tokens still pass TokenReview but can never be verified offline, as with
    /// Kubernetes' external signers.
    pub fn hide_from_discovery(&self, key: &SigningKey) {
        lock(&self.state.keys).hide(key.kid());
    }

    /// Serves `raw` as the JWKS document whatever the keys are; `None` serves the true one again.
    pub fn publish_jwks(&self, raw: Option<String>) {
        lock(&self.state.keys).publish_instead(raw);
    }
}
