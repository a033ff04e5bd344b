//! The reasons why a JWKS verifier cannot be built.

use std::{fmt, path::PathBuf, time::Duration};

use crate::audience::InvalidAudiences;

/// Why [`JwksBuilder::build`](super::JwksBuilder::build) fails.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JwksBuildError {
    /// Keys are given without the issuer whose tokens they verify.
    NoIssuer,
    /// An issuer cannot be used.
    Issuer {
        /// The issuer.
        issuer: String,
        /// The reason.
        why: &'static str,
    },
    /// A name of the API server's audience is invalid.
    ApiServerAudience(InvalidAudiences),
    /// The list of algorithms is empty.
    NoAlgorithm,
    /// The leeway exceeds its limit.
    LeewayTooLong {
        /// The leeway.
        leeway: Duration,
        /// Its upper bound.
        limit: Duration,
    },
    /// `max_key_age` is set for keys that are given and have no age.
    KeyAgeOfGivenKeys,
    /// Keys would exceed `max_key_age` between two refreshes.
    KeyAgeTooShort {
        /// The option.
        limit: Duration,
        /// What it must exceed.
        least: Duration,
    },
    /// The named option is zero.
    Zero(&'static str),
    /// The file with the keys cannot be read.
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        why: String,
    },
    /// The given keys cannot be used.
    Keys(String),
    /// The given CA certificates cannot be used.
    RootCertificate(String),
}

impl fmt::Display for JwksBuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoIssuer => f.write_str(
                "no issuer is set: call issuer(\"…\") with the `iss` of the tokens that these \
                 keys sign, which is the API server's --service-account-issuer",
            ),
            Self::Issuer { issuer, why } => write!(f, "the issuer {issuer:?} {why}"),
            Self::ApiServerAudience(invalid) => write!(f, "api_server_audience: {invalid}"),
            Self::NoAlgorithm => f.write_str(
                "no algorithm is allowed, so no token could be verified: give at least one, or \
                 drop algorithms() for the default",
            ),
            Self::LeewayTooLong { leeway, limit } => write!(
                f,
                "leeway is {leeway:?}: an expired token would be accepted for that long; the limit \
                 is {limit:?}"
            ),
            Self::KeyAgeOfGivenKeys => {
                f.write_str("given keys are never fetched, so they have no age: drop max_key_age()")
            }
            Self::KeyAgeTooShort { limit, least } => write!(
                f,
                "max_key_age is {limit:?}, so keys would exceed it between two refreshes: set more \
                 than {least:?}, or shorten refresh_interval"
            ),
            Self::Zero(option) => write!(f, "{option} is 0: set a positive duration"),
            Self::File { path, why } => {
                write!(f, "the file of keys {} cannot be read: {why}", path.display())
            }
            Self::Keys(why) => write!(f, "the given keys cannot be used: {why}"),
            Self::RootCertificate(why) => write!(f, "the CA certificates cannot be used: {why}"),
        }
    }
}

impl std::error::Error for JwksBuildError {}
