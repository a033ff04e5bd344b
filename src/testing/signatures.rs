//! Signing tokens with any header and claims, and verifying their signatures.

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    signature::{self, KeyPair as _, RsaEncoding, UnparsedPublicKey, VerificationAlgorithm},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use serde_json::Value;

use super::{
    algorithm::Algorithm,
    keys::{Pair, SigningKey},
};

/// Signing and verifying.
impl SigningKey {
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
        let signed = match self.pair() {
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
        let algorithm: &'static dyn VerificationAlgorithm = match (self.algorithm(), alg) {
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
        let public: &[u8] = match self.pair() {
            Pair::Rsa(pair) => pair.public_key().as_ref(),
            Pair::Ec(pair) => pair.public_key().as_ref(),
            Pair::Ed25519(pair) => pair.public_key().as_ref(),
        };
        UnparsedPublicKey::new(algorithm, public).verify(message, signature).is_ok()
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

#[cfg(test)]
mod tests {
    use serde_json::json;

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
}
