//! A public key, parsed once and bound to the algorithms that it may verify.

use aws_lc_rs::{
    digest,
    signature::{
        self, ParsedPublicKey, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::{
    AlgorithmParameters, CommonParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse,
};

use super::algorithm::Algorithm;

#[derive(Clone)]
pub(super) struct Key {
    id: Option<Box<str>>,
    parsed: Box<[(Algorithm, ParsedPublicKey)]>,
}

/// The reason why a key cannot be used, for a log line or an error.
pub(super) type UnusableReason = &'static str;

impl Key {
    /// Reads a JWK ([RFC 7517]) and binds it to those of `allowed` that fit its type and its `alg`.
    /// Its `use` and its `key_ops` must permit verification.
    ///
    /// [RFC 7517]: https://www.rfc-editor.org/rfc/rfc7517
    pub(super) fn from_jwk(jwk: &Jwk, allowed: &[Algorithm]) -> Result<Self, UnusableReason> {
        check_purpose(&jwk.common)?;
        let own = jwk.common.key_algorithm.map(|algorithm| algorithm.to_string());
        let fits =
            |algorithm: &&Algorithm| own.as_deref().is_none_or(|own| own == algorithm.as_str());
        let material = KeyMaterial::from_jwk(&jwk.algorithm)?;
        let parsed = allowed
            .iter()
            .filter(fits)
            .filter_map(|algorithm| material.parse(*algorithm))
            .collect();
        Self::new(jwk.common.key_id.as_deref().map(Box::from), parsed)
    }

    /// Reads the DER of a `SubjectPublicKeyInfo`. Its id is the one that kube-apiserver gives it:
    /// the base64url of the DER's SHA-256 (`pkg/serviceaccount/jwt.go`, `keyIDFromPublicKey`).
    pub(super) fn from_spki(der: &[u8], allowed: &[Algorithm]) -> Result<Self, UnusableReason> {
        let id = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, der));
        let material = KeyMaterial::Spki(der.to_vec());
        let parsed = allowed.iter().filter_map(|algorithm| material.parse(*algorithm)).collect();
        Self::new(Some(id.into()), parsed)
    }

    fn new(
        id: Option<Box<str>>,
        parsed: Box<[(Algorithm, ParsedPublicKey)]>,
    ) -> Result<Self, UnusableReason> {
        if parsed.is_empty() {
            Err("its type, curve, size or alg fits none of the allowed algorithms")
        } else {
            Ok(Self { id, parsed })
        }
    }

    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whether the key is bound to the algorithm.
    pub(super) fn supports(&self, algorithm: Algorithm) -> bool {
        self.parsed.iter().any(|(own, _)| *own == algorithm)
    }

    pub(super) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        self.parsed
            .iter()
            .find(|(own, _)| *own == algorithm)
            .is_some_and(|(_, key)| key.verify_sig(message, signature).is_ok())
    }
}

/// Checks that the key is meant for signatures (RFC 7517 §4.2 and §4.3).
fn check_purpose(common: &CommonParameters) -> Result<(), UnusableReason> {
    if !matches!(common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return Err("its use is not sig");
    }
    match &common.key_operations {
        Some(operations) if !operations.contains(&KeyOperations::Verify) => {
            Err("its key_ops do not contain verify")
        }
        _ => Ok(()),
    }
}

/// A public key that is not yet bound to an algorithm.
enum KeyMaterial {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    Point { curve: Curve, bytes: Vec<u8> },
    Spki(Vec<u8>),
}

#[derive(PartialEq)]
enum Curve {
    P256,
    P384,
    Ed25519,
}

impl KeyMaterial {
    fn from_jwk(parameters: &AlgorithmParameters) -> Result<Self, UnusableReason> {
        match parameters {
            AlgorithmParameters::RSA(rsa) => {
                let (n, e) = (integer(&rsa.n)?, integer(&rsa.e)?);
                check_rsa(&n, &e)?;
                Ok(Self::Rsa { n, e })
            }
            AlgorithmParameters::EllipticCurve(point) => {
                let (curve, length) = match point.curve {
                    EllipticCurve::P256 => (Curve::P256, 32),
                    EllipticCurve::P384 => (Curve::P384, 48),
                    _ => return Err("its curve is neither P-256 nor P-384"),
                };
                let (x, y) = (decode(&point.x)?, decode(&point.y)?);
                if x.len() != length || y.len() != length {
                    return Err("a coordinate does not have the curve's length");
                }
                // The uncompressed form of SEC 1 §2.3.3.
                Ok(Self::Point { curve, bytes: [&[4], x.as_slice(), y.as_slice()].concat() })
            }
            AlgorithmParameters::OctetKeyPair(pair) => {
                let bytes = decode(&pair.x)?;
                if pair.curve != EllipticCurve::Ed25519 || bytes.len() != 32 {
                    return Err("it is not an Ed25519 key of 32 bytes");
                }
                Ok(Self::Point { curve: Curve::Ed25519, bytes })
            }
            AlgorithmParameters::OctetKey(_) => Err("it is a secret key, not a public one"),
            _ => Err("its type is not supported"),
        }
    }

    fn parse(&self, algorithm: Algorithm) -> Option<(Algorithm, ParsedPublicKey)> {
        let key = match (self, algorithm.rsa()) {
            (Self::Rsa { n, e }, Some(parameters)) => {
                RsaPublicKeyComponents { n, e }.to_parsed_public_key(parameters).ok()
            }
            (Self::Point { curve, bytes }, None) if *curve == curve_of(algorithm)? => {
                UnparsedPublicKey::new(verification(algorithm)?, bytes).parse().ok()
            }
            (Self::Spki(der), Some(parameters)) => {
                // aws-lc-rs checks the size only when it verifies a signature.
                UnparsedPublicKey::new(parameters, der)
                    .parse()
                    .ok()
                    .filter(|key| is_strong_rsa(key.as_ref()))
            }
            (Self::Spki(der), None) => {
                UnparsedPublicKey::new(verification(algorithm)?, der).parse().ok()
            }
            _ => None,
        };
        key.map(|key| (algorithm, key))
    }
}

fn curve_of(algorithm: Algorithm) -> Option<Curve> {
    match algorithm {
        Algorithm::ES256 => Some(Curve::P256),
        Algorithm::ES384 => Some(Curve::P384),
        Algorithm::EdDSA => Some(Curve::Ed25519),
        _ => None,
    }
}

/// JWS encodes an ECDSA signature as two integers of fixed length (RFC 7518 §3.4).
fn verification(algorithm: Algorithm) -> Option<&'static dyn VerificationAlgorithm> {
    match algorithm {
        Algorithm::ES256 => Some(&signature::ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => Some(&signature::ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDSA => Some(&signature::ED25519),
        _ => None,
    }
}

/// Decodes base64url without padding (RFC 7515 §2).
fn decode(text: &str) -> Result<Vec<u8>, UnusableReason> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| "one of its integers is not base64url")
}

/// Decodes a big-endian integer without its leading zeros, which RFC 7518 §2 forbids but some
/// issuers write.
fn integer(text: &str) -> Result<Vec<u8>, UnusableReason> {
    let bytes = decode(text)?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    Ok(bytes.into_iter().skip(zeros).collect())
}

/// Checks the size of the modulus (at least 2048 bits by NIST SP 800-57) and the exponent. With an
/// exponent of 1, every message would be its own signature.
fn check_rsa(n: &[u8], e: &[u8]) -> Result<(), UnusableReason> {
    let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
    if !(2048..=8192).contains(&bits) {
        return Err("its RSA modulus does not have 2048 to 8192 bits");
    }
    let exponent =
        e.iter().try_fold(0_u64, |number, byte| Some(number.checked_mul(256)? | u64::from(*byte)));
    match exponent {
        Some(exponent) if exponent >= 3 && exponent % 2 == 1 && exponent < 1 << 33 => Ok(()),
        _ => Err("its RSA exponent is even, 1, or too large"),
    }
}

/// Applies [`check_rsa`] to the DER of an `RSAPublicKey` or of a `SubjectPublicKeyInfo`.
fn is_strong_rsa(der: &[u8]) -> bool {
    rsa_integers(der).is_some_and(|(n, e)| check_rsa(n, e).is_ok())
}

/// Returns `n` and `e` of `RSAPublicKey ::= SEQUENCE { n INTEGER, e INTEGER }`.
fn rsa_integers(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (sequence, _) = element(der, 0x30)?;
    let sequence = match element(sequence, 0x30) {
        // SubjectPublicKeyInfo ::= SEQUENCE { algorithm SEQUENCE, subjectPublicKey BIT STRING }
        Some((_, rest)) => element(element(rest, 0x03)?.0.strip_prefix(&[0])?, 0x30)?.0,
        None => sequence,
    };
    let (n, rest) = element(sequence, 0x02)?;
    let (e, _) = element(rest, 0x02)?;
    Some((n.strip_prefix(&[0]).unwrap_or(n), e))
}

/// Returns the content of a DER element with this tag, and the bytes after it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let rest = der.strip_prefix(&[tag])?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}
