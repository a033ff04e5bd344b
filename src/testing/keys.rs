//! Key pairs that sign tokens, and their export as PEM and JWK.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    digest,
    encoding::{AsDer, Pkcs8V1Der},
    rsa,
    signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use serde_json::{Value, json};

use super::{algorithm::Algorithm, error::ClusterError};

/// A key pair that signs any header and claims: valid tokens, and hostile ones that a verifier must
/// reject.
///
/// A cluster accepts only its own keys ([`Cluster::signing_key`](super::Cluster::signing_key)).
///
/// ```
/// use serde_json::json;
/// use tower_kube_auth::testing::{Algorithm, SigningKey};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let stranger = SigningKey::generate(Algorithm::ES256)?;
/// let token = stranger.sign(&json!({"alg": "ES256", "kid": "x"}), &json!({"sub": "me"}));
/// assert_eq!(token.split('.').count(), 3);
/// assert_eq!(stranger.jwk()["crv"], "P-256");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SigningKey(Arc<Inner>);

struct Inner {
    algorithm: Algorithm,
    pair: Pair,
    spki: Vec<u8>,
    kid: String,
}

pub(super) enum Pair {
    Rsa(rsa::KeyPair),
    Ec(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    /// Generates a key pair.
    ///
    /// # Errors
    /// If the system's random number generator fails.
    pub fn generate(algorithm: Algorithm) -> Result<Self, ClusterError> {
        Self::try_generate(algorithm)
            .map_err(|unspecified| ClusterError::new("cannot generate a signing key", unspecified))
    }

    fn try_generate(algorithm: Algorithm) -> Result<Self, aws_lc_rs::error::Unspecified> {
        let ec = |curve| EcdsaKeyPair::generate(curve).map(Pair::Ec);
        let pair = match algorithm {
            Algorithm::RS256 => Pair::Rsa(rsa::KeyPair::generate(rsa::KeySize::Rsa2048)?),
            Algorithm::ES256 => ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING)?,
            Algorithm::ES384 => ec(&signature::ECDSA_P384_SHA384_FIXED_SIGNING)?,
            Algorithm::EdDSA => Pair::Ed25519(Ed25519KeyPair::generate()?),
        };
        let spki = match &pair {
            Pair::Rsa(pair) => pair.public_key().as_der()?.as_ref().to_vec(),
            Pair::Ec(pair) => pair.public_key().as_der()?.as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.public_key().as_der()?.as_ref().to_vec(),
        };
        // `keyIDFromPublicKey` in Kubernetes' pkg/serviceaccount: the hash of the PKIX form.
        let kid = BASE64URL.encode(digest::digest(&digest::SHA256, &spki));
        Ok(Self(Arc::new(Inner { algorithm, pair, spki, kid })))
    }

    /// Returns the key's algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.0.algorithm
    }

    pub(super) fn pair(&self) -> &Pair {
        &self.0.pair
    }

    /// Returns the key id as Kubernetes derives it: base64url of the SHA-256 of
    /// [`public_key_der`](Self::public_key_der).
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.0.kid
    }

    /// Returns the header that Kubernetes writes: `alg` and `kid`.
    #[must_use]
    pub fn header(&self) -> Value {
        json!({"alg": self.0.algorithm.name(), "kid": self.0.kid})
    }

    /// Returns the public key as a DER SubjectPublicKeyInfo.
    #[must_use]
    pub fn public_key_der(&self) -> &[u8] {
        &self.0.spki
    }

    /// Returns the public key as PEM (`BEGIN PUBLIC KEY`).
    #[must_use]
    pub fn public_key_pem(&self) -> String {
        pem("PUBLIC KEY", &self.0.spki)
    }

    /// Returns the private key as PEM (PKCS #8), the format of
    /// `--service-account-signing-key-file`. Whoever has it can sign tokens of the cluster.
    ///
    /// # Errors
    /// If memory allocation fails.
    pub fn private_key_pem(&self) -> Result<String, ClusterError> {
        let pkcs8 = match &self.0.pair {
            Pair::Rsa(pair) => {
                AsDer::<Pkcs8V1Der<'_>>::as_der(pair).map(|der| der.as_ref().to_vec())
            }
            Pair::Ec(pair) => pair.to_pkcs8v1().map(|der| der.as_ref().to_vec()),
            Pair::Ed25519(pair) => pair.to_pkcs8v1().map(|der| der.as_ref().to_vec()),
        };
        let pkcs8 = pkcs8
            .map_err(|unspecified| ClusterError::new("cannot write a signing key", unspecified))?;
        Ok(pem("PRIVATE KEY", &pkcs8))
    }

    /// Returns the public key as the JWK that the API server publishes.
    #[must_use]
    pub fn jwk(&self) -> Value {
        let mut jwk = match &self.0.pair {
            Pair::Rsa(pair) => {
                let (n, e) = (pair.public_key().modulus(), pair.public_key().exponent());
                let number = |bytes: &[u8]| BASE64URL.encode(bytes);
                json!({
                    "kty": "RSA",
                    "n": number(n.big_endian_without_leading_zero()),
                    "e": number(e.big_endian_without_leading_zero()),
                })
            }
            Pair::Ec(pair) => {
                // Uncompressed point: the byte 4, then x and y of equal length.
                let point = pair.public_key().as_ref().get(1..).unwrap_or_default();
                let (x, y) = point.split_at(point.len() / 2);
                let curve = if self.0.algorithm == Algorithm::ES384 { "P-384" } else { "P-256" };
                let (x, y) = (BASE64URL.encode(x), BASE64URL.encode(y));
                json!({"kty": "EC", "crv": curve, "x": x, "y": y})
            }
            Pair::Ed25519(pair) => {
                let x = BASE64URL.encode(pair.public_key().as_ref());
                json!({"kty": "OKP", "crv": "Ed25519", "x": x})
            }
        };
        if let Some(jwk) = jwk.as_object_mut() {
            jwk.insert("use".to_owned(), json!("sig"));
            jwk.insert("kid".to_owned(), json!(self.0.kid));
            jwk.insert("alg".to_owned(), json!(self.0.algorithm.name()));
        }
        jwk
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &self.0.algorithm)
            .field("kid", &self.0.kid)
            .finish()
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let encoded = base64::engine::general_purpose::STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for (at, character) in encoded.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            text.push('\n');
        }
        text.push(character);
    }
    text.push_str(&format!("\n-----END {label}-----\n"));
    text
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a panic is how a test fails")]
mod tests {
    use super::*;

    #[test]
    fn the_key_id_is_the_hash_of_the_published_key() {
        let key = SigningKey::generate(Algorithm::ES256).unwrap();
        let kid = BASE64URL.encode(digest::digest(&digest::SHA256, key.public_key_der()));
        assert_eq!(key.jwk()["kid"], kid);
        let jwk = key.jwk();
        let mut point = vec![4];
        point.extend(BASE64URL.decode(jwk["x"].as_str().unwrap()).unwrap());
        point.extend(BASE64URL.decode(jwk["y"].as_str().unwrap()).unwrap());
        assert!(key.public_key_der().ends_with(&point));
    }
}
