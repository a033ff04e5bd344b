//! The cluster's keys: which sign, which are published, and how they are rotated one step at a time.

use serde_json::Value;

use super::keys::SigningKey;

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

    /// Publishes and accepts `key`, which does not sign yet.
    pub(super) fn add(&mut self, key: SigningKey) {
        self.keys.push(Entry { key, hidden: false });
    }

    pub(super) fn sign_with_newest(&mut self) {
        if let Some(newest) = self.keys.last() {
            self.signing = newest.key.clone();
        }
    }

    /// Drops every key but the signing one.
    pub(super) fn remove_old(&mut self) {
        self.keys.retain(|entry| entry.key.kid() == self.signing.kid());
    }

    /// Keeps the key out of the JWKS. It still verifies.
    pub(super) fn hide(&mut self, kid: &str) {
        for entry in self.keys.iter_mut().filter(|entry| entry.key.kid() == kid) {
            entry.hidden = true;
        }
    }

    /// Serves `raw` as the JWKS; with `None` the true one again.
    pub(super) fn publish_instead(&mut self, raw: Option<String>) {
        self.published_instead = raw;
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
