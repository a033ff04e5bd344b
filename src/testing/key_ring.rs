//! Key ring of the cluster: which key signs, which are published, and the steps of a rotation.

use serde_json::Value;

use super::keys::SigningKey;

pub(super) struct KeyRing {
    /// Oldest first, never empty. All verify tokens (`--service-account-key-file`).
    keys: Vec<Entry>,
    /// The key that signs (`--service-account-signing-key-file`).
    signing: SigningKey,
    jwks_override: Option<String>,
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
            jwks_override: None,
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

    /// Publishes and accepts `key` without signing with it.
    pub(super) fn add(&mut self, key: SigningKey) {
        self.keys.push(Entry { key, hidden: false });
    }

    pub(super) fn sign_with_newest(&mut self) {
        if let Some(newest) = self.keys.last() {
            self.signing = newest.key.clone();
        }
    }

    /// Removes every key except the signing one.
    pub(super) fn remove_old(&mut self) {
        self.keys.retain(|entry| entry.key.kid() == self.signing.kid());
    }

    /// Removes the key from the JWKS. It still verifies.
    pub(super) fn hide(&mut self, kid: &str) {
        for entry in self.keys.iter_mut().filter(|entry| entry.key.kid() == kid) {
            entry.hidden = true;
        }
    }

    /// Serves `raw` as the JWKS; `None` restores the actual one.
    pub(super) fn override_jwks(&mut self, raw: Option<String>) {
        self.jwks_override = raw;
    }

    pub(super) fn jwks(&self) -> String {
        match &self.jwks_override {
            Some(raw) => raw.clone(),
            None => {
                let keys: Vec<_> =
                    self.published().iter().map(|key| serialize(&key.jwk())).collect();
                format!(r#"{{"keys":[{}]}}"#, keys.join(","))
            }
        }
    }
}

/// Serializes a key with its members in go-jose's order (`rawJSONWebKey`).
fn serialize(jwk: &Value) -> String {
    let order = ["use", "kty", "kid", "crv", "alg", "x", "y", "n", "e"];
    let members: Vec<_> = order
        .iter()
        .filter_map(|name| jwk.get(name).map(|value| format!("\"{name}\":{value}")))
        .collect();
    format!("{{{}}}", members.join(","))
}
