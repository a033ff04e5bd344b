//! Key pairs that sign tokens, and their export as PEM and JWK.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    digest,
    encoding::{AsDer, Pkcs8V1Der},
    hmac,
    rand::SystemRandom,
    rsa,
    signature::{
        self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaEncoding, UnparsedPublicKey,
        VerificationAlgorithm,
    },
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

enum Pair {
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

    /// Signs `header` and `claims` unchecked into a compact JWS.
    ///
    /// For an RSA key the header's `alg` chooses among RS256/384/512 and PS256/384/512. Any other
    /// `alg` is written but ignored: the key signs with its own algorithm, and the token's header
    /// is wrong.
    #[must_use]
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let alg = header.get("alg").and_then(Value::as_str).unwrap_or_default().to_owned();
        self.sign_bytes(&alg, header.to_string().as_bytes(), claims.to_string().as_bytes())
    }

    /// Like [`sign`](Self::sign), for a header and claims that `serde_json` cannot write: duplicate
    /// keys, invalid UTF-8, no JSON at all.
    #[must_use]
    pub fn sign_bytes(&self, alg: &str, header: &[u8], claims: &[u8]) -> String {
        let signed = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(claims));
        let signature = self.signature(alg, signed.as_bytes());
        format!("{signed}.{}", BASE64URL.encode(signature))
    }

    fn signature(&self, alg: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let signed = match &self.0.pair {
            Pair::Rsa(pair) => {
                let encoding: &'static dyn RsaEncoding = match alg {
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    "PS384" => &signature::RSA_PSS_SHA384,
                    "PS512" => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut bytes = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, message, &mut bytes).map(|()| bytes)
            }
            Pair::Ec(pair) => {
                pair.sign(&random, message).map(|signature| signature.as_ref().to_vec())
            }
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        };
        // Signing fails only without memory or random numbers. An empty signature is accepted by
        // nobody.
        signed.unwrap_or_default()
    }

    /// Returns whether this key made `signature` with `alg`: go-jose's check in the API server.
    pub(super) fn verifies(&self, alg: &str, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &'static dyn VerificationAlgorithm = match (self.0.algorithm, alg) {
            (Algorithm::RS256, "RS256") => &signature::RSA_PKCS1_2048_8192_SHA256,
            (Algorithm::RS256, "RS384") => &signature::RSA_PKCS1_2048_8192_SHA384,
            (Algorithm::RS256, "RS512") => &signature::RSA_PKCS1_2048_8192_SHA512,
            (Algorithm::RS256, "PS256") => &signature::RSA_PSS_2048_8192_SHA256,
            (Algorithm::RS256, "PS384") => &signature::RSA_PSS_2048_8192_SHA384,
            (Algorithm::RS256, "PS512") => &signature::RSA_PSS_2048_8192_SHA512,
            (Algorithm::ES256, "ES256") => &signature::ECDSA_P256_SHA256_FIXED,
            (Algorithm::ES384, "ES384") => &signature::ECDSA_P384_SHA384_FIXED,
            (Algorithm::EdDSA, "EdDSA") => &signature::ED25519,
            _ => return false,
        };
        let public: &[u8] = match &self.0.pair {
            Pair::Rsa(pair) => pair.public_key().as_ref(),
            Pair::Ec(pair) => pair.public_key().as_ref(),
            Pair::Ed25519(pair) => pair.public_key().as_ref(),
        };
        UnparsedPublicKey::new(algorithm, public).verify(message, signature).is_ok()
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

/// Signs with HMAC-SHA-256 and `secret`, independent of the header.
///
/// A public key as the secret and `HS256` as the `alg` make the algorithm-confusion attack.
///
/// ```
/// use serde_json::json;
/// use tower_kube_auth::testing::{Algorithm, SigningKey, sign_hs256};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let key = SigningKey::generate(Algorithm::ES256)?;
/// let secret = key.public_key_pem();
/// let header = json!({"alg": "HS256", "kid": key.kid()});
/// let token = sign_hs256(&header, &json!({"sub": "me"}), secret.as_bytes());
/// assert_eq!(token.split('.').count(), 3);
/// # Ok(()) }
/// ```
#[must_use]
pub fn sign_hs256(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let signed = format!(
        "{}.{}",
        BASE64URL.encode(header.to_string()),
        BASE64URL.encode(claims.to_string())
    );
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
    format!("{signed}.{}", BASE64URL.encode(tag))
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
    fn a_signature_verifies_with_its_own_key_only() {
        for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA] {
            let [key, other] = [(); 2].map(|()| SigningKey::generate(algorithm).unwrap());
            let token = key.sign(&key.header(), &json!({"sub": "x"}));
            let (signed, signature) = token.rsplit_once('.').unwrap();
            let signature = BASE64URL.decode(signature).unwrap();
            assert!(key.verifies(algorithm.name(), signed.as_bytes(), &signature), "{algorithm:?}");
            assert!(
                !other.verifies(algorithm.name(), signed.as_bytes(), &signature),
                "{algorithm:?}"
            );
            assert!(!key.verifies("HS256", signed.as_bytes(), &signature), "{algorithm:?}");
        }
    }

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
