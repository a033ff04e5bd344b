//! The keys of an issuer, by key id.

use std::{collections::HashMap, fmt};

use jsonwebtoken::jwk::Jwk;
use rustls_pki_types::{SubjectPublicKeyInfoDer, pem::PemObject};
use serde::Deserialize;
use serde_json::Value;

use super::{
    algorithm::Algorithm,
    key::{Key, UnusableReason},
};
use crate::json::{Object, ReadError};

/// Upper bound for the keys that one token is tried with, each at the cost of a signature check.
const MAX_KEYS_TRIED: usize = 16;

pub(super) struct KeySet {
    keys: Vec<Key>,
    by_id: HashMap<Box<str>, Vec<usize>>,
    skipped: Option<Skipped>,
}

/// The keys of a JWK Set that cannot be used.
#[derive(Clone, Copy)]
pub(super) struct Skipped {
    pub(super) count: usize,
    /// The position of the first of them, from 1.
    pub(super) position: usize,
    /// The reason why the first of them cannot be used.
    pub(super) reason: UnusableReason,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

/// The result of [`KeySet::verify`].
pub(super) enum SignatureCheck {
    /// A key verifies the signature.
    Verified,
    /// The keys with this id do not verify it.
    BadSignature,
    /// The keys with this id are not bound to this algorithm.
    WrongAlgorithm,
    /// No key has this id.
    UnknownKey,
}

impl KeySet {
    /// Reads a JWK Set ([RFC 7517 §5]). [Skips](Self::skipped) keys that cannot be used. A set that
    /// has keys of which none can be used is invalid: an issuer whose keys this service cannot use
    /// must not turn into one without keys, whose tokens are all rejected.
    ///
    /// [RFC 7517 §5]: https://www.rfc-editor.org/rfc/rfc7517#section-5
    pub(super) fn from_json(json: &[u8], allowed: &[Algorithm]) -> Result<Self, InvalidKeys> {
        let Object(document) = serde_json::from_slice::<Object<Document>>(json)
            .map_err(|error| InvalidKeys::Json(error.into()))?;
        let (mut keys, mut skipped) = (Vec::new(), Vec::new());
        for (position, value) in (1..).zip(document.keys) {
            let jwk = serde_json::from_value::<Jwk>(value).map_err(|_| "it is not a JWK");
            match jwk.and_then(|jwk| Key::from_jwk(&jwk, allowed)) {
                Ok(key) => keys.push(key),
                Err(reason) => skipped.push((position, reason)),
            }
        }
        let Some((position, reason)) = skipped.first().copied() else { return Ok(Self::new(keys)) };
        if keys.is_empty() {
            return Err(InvalidKeys::NoneUsable { count: skipped.len(), position, reason });
        }
        for (position, reason) in &skipped {
            tracing::debug!(position, reason, "skipped a key of the JWK Set");
        }
        let skipped = Some(Skipped { count: skipped.len(), position, reason });
        Ok(Self { skipped, ..Self::new(keys) })
    }

    /// Reads all `PUBLIC KEY` blocks of a PEM text. Each must be usable, because the text is the
    /// operator's own, unlike a published set.
    pub(super) fn from_pem(pem: &[u8], allowed: &[Algorithm]) -> Result<Self, InvalidKeys> {
        let mut keys = Vec::new();
        for block in SubjectPublicKeyInfoDer::pem_slice_iter(pem) {
            let der = block.map_err(|error| InvalidKeys::Pem(error.to_string()))?;
            keys.push(
                Key::from_spki(&der, allowed)
                    .map_err(|reason| InvalidKeys::Unusable(keys.len() + 1, reason))?,
            );
        }
        if keys.is_empty() { Err(InvalidKeys::NoPublicKey) } else { Ok(Self::new(keys)) }
    }

    fn new(keys: Vec<Key>) -> Self {
        let mut by_id: HashMap<Box<str>, Vec<usize>> = HashMap::new();
        for (position, key) in keys.iter().enumerate() {
            if let Some(id) = key.id() {
                by_id.entry(id.into()).or_default().push(position);
            }
        }
        Self { keys, by_id, skipped: None }
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns the keys that were read and cannot be used.
    pub(super) fn skipped(&self) -> Option<Skipped> {
        self.skipped
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    /// Checks a signature with the keys that have this id, or with all keys if there is no id, as
    /// Kubernetes does (`pkg/serviceaccount/jwt.go`).
    pub(super) fn verify(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> SignatureCheck {
        match id {
            Some(id) => match self.by_id.get(id) {
                Some(positions) => {
                    let keys = positions.iter().filter_map(|position| self.keys.get(*position));
                    try_keys(keys, algorithm, message, signature)
                }
                None => SignatureCheck::UnknownKey,
            },
            None => try_keys(self.keys.iter(), algorithm, message, signature),
        }
    }
}

fn try_keys<'a>(
    keys: impl Iterator<Item = &'a Key>,
    algorithm: Algorithm,
    message: &[u8],
    signature: &[u8],
) -> SignatureCheck {
    let mut result = SignatureCheck::WrongAlgorithm;
    for key in keys.filter(|key| key.supports(algorithm)).take(MAX_KEYS_TRIED) {
        if key.verifies(algorithm, message, signature) {
            return SignatureCheck::Verified;
        }
        result = SignatureCheck::BadSignature;
    }
    result
}

/// The reason why keys cannot be read.
#[derive(Debug)]
pub(super) enum InvalidKeys {
    Json(ReadError),
    Pem(String),
    NoPublicKey,
    /// The position of a key, from 1, and the reason.
    Unusable(usize, UnusableReason),
    /// Of so many keys none can be used: the position of the first, and the reason.
    NoneUsable {
        count: usize,
        position: usize,
        reason: UnusableReason,
    },
}

impl fmt::Display for InvalidKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => write!(f, "not a JWK Set: {error}"),
            Self::Pem(error) => write!(f, "not PEM: {error}"),
            Self::NoPublicKey => f.write_str("there is no PUBLIC KEY block"),
            Self::Unusable(position, reason) => write!(f, "key {position}: {reason}"),
            Self::NoneUsable { count, position, reason } => write!(
                f,
                "none of its {count} keys can be used; key {position}: {reason}; see algorithms()"
            ),
        }
    }
}
