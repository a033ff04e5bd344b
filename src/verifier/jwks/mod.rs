//! Offline verification against the issuer's public keys.
