//! Credentials and keys that an attacker or a faulty issuer could make.

mod claims;
mod keys;
mod outages;
mod tokens;
