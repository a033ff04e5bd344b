//! Signature algorithms.

/// The algorithm of a [`SigningKey`](super::SigningKey). Kubernetes signs with RS256, or with the
/// ES algorithm of its EC key's curve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// RSA with 2048 bits, PKCS #1 v1.5 and SHA-256. The default here and in most clusters.
    #[default]
    RS256,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// Ed25519. No Kubernetes release signs with it; other issuers do.
    EdDSA,
}

impl Algorithm {
    /// Returns the value of `alg` in a token's header.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
        }
    }
}
