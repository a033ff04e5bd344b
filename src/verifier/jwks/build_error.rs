//! The error of [`JwksBuilder::build`](super::JwksBuilder::build).

use std::{fmt, path::PathBuf, time::Duration};

/// Upper bound for the leeway. A longer one amounts to a second lifetime.
pub(super) const LONGEST_LEEWAY: Duration = Duration::from_secs(300);

/// The reason why a [`JwksBuilder`](super::JwksBuilder) does not build.
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
    /// The list of algorithms is empty.
    NoAlgorithm,
    /// The leeway is longer than 5 min.
    Leeway(Duration),
    /// The named option is zero.
    Zero(&'static str),
    /// The file with the keys cannot be read.
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
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
                "no issuer is configured: call .issuer(\"…\") with the `iss` of the tokens that these keys sign, \
                 which is the API server's --service-account-issuer",
            ),
            Self::Issuer { issuer, why } => write!(f, "the issuer {issuer:?} {why}"),
            Self::NoAlgorithm => f.write_str("no algorithm is allowed: give at least one, or leave the default"),
            Self::Leeway(leeway) => write!(
                f,
                "the leeway is {leeway:?}: for that long expired tokens would be accepted; the limit is \
                 {LONGEST_LEEWAY:?}"
            ),
            Self::Zero(option) => write!(f, "{option} is 0: give a positive duration"),
            Self::File { path, why } => write!(f, "the keys in {} cannot be read: {why}", path.display()),
            Self::Keys(why) => write!(f, "the given keys cannot be used: {why}"),
            Self::RootCertificate(why) => write!(f, "the root certificates cannot be used: {why}"),
        }
    }
}

impl std::error::Error for JwksBuildError {}
