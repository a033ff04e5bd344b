//! The keys of an issuer, found by their id.

use std::{collections::HashMap, fmt};

use jsonwebtoken::jwk::Jwk;
use rustls_pki_types::{SubjectPublicKeyInfoDer, pem::PemObject};
use serde::Deserialize;
use serde_json::Value;

use super::{algorithm::Algorithm, key::Key};
use crate::json::{Object, ReadError};

/// A token without a key id is tried with so many keys at most: each costs a signature check.
const TRIED_WITHOUT_ID: usize = 16;

pub(super) struct KeySet {
    keys: Vec<Key>,
    by_id: HashMap<Box<str>, Vec<usize>>,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

/// What looking for a key has come to.
pub(super) enum Found {
    /// A key fits the signature.
    Verified,
    /// The keys of that id do not fit it.
    BadSignature,
    /// The keys of that id must not be used with that algorithm.
    WrongAlgorithm,
    /// There is no key of that id.
    UnknownKey,
}

impl KeySet {
    /// Reads a JWK Set ([RFC 7517 §5]). A key that cannot be used is left out with a warning; the others count.
    ///
    /// [RFC 7517 §5]: https://www.rfc-editor.org/rfc/rfc7517#section-5
    pub(super) fn from_json(json: &[u8], allowed: &[Algorithm]) -> Result<Self, InvalidKeys> {
        let Object(document) = serde_json::from_slice::<Object<Document>>(json)
            .map_err(|error| InvalidKeys::Json(error.into()))?;
        let mut keys = Vec::new();
        for (position, value) in document.keys.into_iter().enumerate() {
            let jwk = serde_json::from_value::<Jwk>(value).map_err(|_| "it is not a JWK");
            match jwk.and_then(|jwk| Key::from_jwk(&jwk, allowed)) {
                Ok(key) => keys.push(key),
                Err(flaw) => tracing::warn!(position, flaw, "a key of the JWK Set is left out"),
            }
        }
        Ok(Self::new(keys))
    }

    /// Reads all `PUBLIC KEY` blocks of a PEM text. Unlike a published set it is the operator's own, so every key must count.
    pub(super) fn from_pem(pem: &[u8], allowed: &[Algorithm]) -> Result<Self, InvalidKeys> {
        let mut keys = Vec::new();
        for block in SubjectPublicKeyInfoDer::pem_slice_iter(pem) {
            let der = block.map_err(|error| InvalidKeys::Pem(error.to_string()))?;
            keys.push(
                Key::from_spki(&der, allowed)
                    .map_err(|flaw| InvalidKeys::Flawed(keys.len() + 1, flaw))?,
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
        Self { keys, by_id }
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    /// Checks a signature: with a key id by the keys of that id only, without by all (`pkg/serviceaccount/jwt.go` does the
    /// same).
    pub(super) fn verify(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Found {
        match id {
            Some(id) => match self.by_id.get(id) {
                Some(positions) => {
                    let keys = positions.iter().filter_map(|position| self.keys.get(*position));
                    try_keys(keys, algorithm, message, signature)
                }
                None => Found::UnknownKey,
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
) -> Found {
    let mut found = Found::WrongAlgorithm;
    for key in keys.filter(|key| key.supports(algorithm)).take(TRIED_WITHOUT_ID) {
        if key.verifies(algorithm, message, signature) {
            return Found::Verified;
        }
        found = Found::BadSignature;
    }
    found
}

/// Why keys cannot be read.
#[derive(Debug)]
pub(super) enum InvalidKeys {
    Json(ReadError),
    Pem(String),
    NoPublicKey,
    Flawed(usize, &'static str),
}

impl fmt::Display for InvalidKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => write!(f, "it is not a JWK Set: {error}"),
            Self::Pem(error) => write!(f, "it is not PEM: {error}"),
            Self::NoPublicKey => f.write_str("it has no PUBLIC KEY block"),
            Self::Flawed(position, flaw) => {
                write!(f, "key {position} of it cannot be used: {flaw}")
            }
        }
    }
}
