//! The cluster's keys: which sign, which are published, and how they are rotated one step at a time.

use serde_json::Value;

use super::{Algorithm, Cluster, ClusterError, SigningKey, state::lock};

pub(super) struct KeyRing {
    /// Oldest first; never empty. All of them verify tokens (the API server's `--service-account-key-file`).
    keys: Vec<Entry>,
    /// The key that signs (`--service-account-signing-key-file`).
    signing: SigningKey,
    published_instead: Option<String>,
}

struct Entry {
    key: SigningKey,
    hidden: bool,
}

impl KeyRing {
    pub(super) fn new(key: SigningKey) -> Self {
        Self {
            keys: vec![Entry { key: key.clone(), hidden: false }],
            signing: key,
            published_instead: None,
        }
    }

    pub(super) fn verifying(&self) -> Vec<SigningKey> {
        self.keys.iter().map(|entry| entry.key.clone()).collect()
    }

    pub(super) fn signing(&self) -> SigningKey {
        self.signing.clone()
    }

    pub(super) fn published(&self) -> Vec<SigningKey> {
        self.keys.iter().filter(|entry| !entry.hidden).map(|entry| entry.key.clone()).collect()
    }

    pub(super) fn jwks(&self) -> String {
        match &self.published_instead {
            Some(raw) => raw.clone(),
            None => {
                let keys: Vec<_> = self.published().iter().map(|key| spelled(&key.jwk())).collect();
                format!(r#"{{"keys":[{}]}}"#, keys.join(","))
            }
        }
    }
}

/// The key with its members in the order in which Kubernetes' library writes them (go-jose, `rawJSONWebKey`).
fn spelled(jwk: &Value) -> String {
    let order = ["use", "kty", "kid", "crv", "alg", "x", "y", "n", "e"];
    let members: Vec<_> = order
        .iter()
        .filter_map(|name| jwk.get(name).map(|value| format!("\"{name}\":{value}")))
        .collect();
    format!("{{{}}}", members.join(","))
}

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
        lock(&self.state.keys).keys.push(Entry { key: key.clone(), hidden: false });
        Ok(key)
    }

    /// Second step of a rotation: the newest key signs from now on; the older ones are still published and accepted.
    pub fn sign_with_newest(&self) {
        let mut ring = lock(&self.state.keys);
        if let Some(newest) = ring.keys.last().map(|entry| entry.key.clone()) {
            ring.signing = newest;
        }
    }

    /// Last step of a rotation: every key but the signing one is forgotten, and its tokens are refused.
    pub fn remove_old_keys(&self) {
        let mut ring = lock(&self.state.keys);
        let signing = ring.signing.clone();
        ring.keys.retain(|entry| entry.key.kid() == signing.kid());
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
        for entry in
            lock(&self.state.keys).keys.iter_mut().filter(|entry| entry.key.kid() == key.kid())
        {
            entry.hidden = true;
        }
    }

    /// Serves `raw` as the JWKS document whatever the keys are; `None` serves the true one again.
    pub fn publish_jwks(&self, raw: Option<String>) {
        lock(&self.state.keys).published_instead = raw;
    }
}
