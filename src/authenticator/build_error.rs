//! The reasons why an authenticator cannot be built.

use std::{fmt, time::Duration};

use crate::audience::InvalidAudiences;

/// Why [`AuthenticatorBuilder::build`](super::AuthenticatorBuilder::build) fails.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthenticatorBuildError {
    /// The audiences are missing or invalid.
    Audiences(InvalidAudiences),
    /// Both audiences and `dangerous_accept_any_audience` are set.
    AnyAndSomeAudiences,
    /// Both audiences and `api_server_audience` are set.
    ApiServerAndOtherAudiences,
    /// `api_server_audience` is set, but the verifier does not support it.
    ApiServerAudienceUnsupported,
    /// An issuer is the empty string.
    EmptyIssuer,
    /// The named option is zero.
    Zero(&'static str),
    /// The named option is implausibly large.
    TooLarge(&'static str),
    /// The named duration exceeds its limit.
    TooLong {
        /// The option.
        option: &'static str,
        /// Its value.
        ttl: Duration,
        /// Its upper bound.
        limit: Duration,
    },
    /// `serve_stale` is set, but `cache_ttl` is zero.
    StaleWithoutCache,
    /// `max_wait` is not shorter than `verification_timeout`.
    WaitBeyondTimeout,
    /// `max_in_flight` is 1, which leaves no permit to reserve for known tokens.
    NoReservedPermit,
    /// The realm cannot be written as a quoted string.
    Realm(String),
    /// The operating system has no random bytes for the cache's digest key.
    NoRandomness,
}

impl fmt::Display for AuthenticatorBuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Audiences(invalid) => invalid.fmt(f),
            Self::AnyAndSomeAudiences => f.write_str(
                "dangerous_accept_any_audience() contradicts audience() and api_server_audience(): \
                 drop it to accept these audiences only",
            ),
            Self::ApiServerAndOtherAudiences => f.write_str(
                "audience() and api_server_audience() contradict each other, because one \
                 TokenReview cannot ask for both: build an authenticator for each",
            ),
            Self::ApiServerAudienceUnsupported => f.write_str(
                "api_server_audience() needs a verifier that supports it: give a JwksVerifier the \
                 name, by JwksBuilder::api_server_audience(\"…\"), and a custom verifier \
                 Verifier::supports_api_server_audience",
            ),
            Self::EmptyIssuer => {
                f.write_str("an issuer is the empty string: is an environment variable unset?")
            }
            Self::Zero(option @ ("cache_capacity" | "reject_capacity")) => write!(
                f,
                "{option} is 0: set a positive number, or set the matching TTL to zero to turn \
                 that cache off"
            ),
            Self::Zero(option) => {
                write!(f, "{option} is 0, so no token could be verified: set a positive value")
            }
            Self::TooLarge(option) => {
                write!(f, "{option} is implausibly large: is it in the wrong unit?")
            }
            Self::TooLong { option, ttl, limit } => write!(
                f,
                "{option} is {ttl:?}: a revoked token could be served for that long; the limit is \
                 {limit:?}"
            ),
            Self::StaleWithoutCache => f.write_str(
                "serve_stale() needs a cache, but cache_ttl is zero: set a positive cache_ttl, or \
                 drop serve_stale()",
            ),
            Self::NoReservedPermit => f.write_str(
                "max_in_flight must be at least 2, because one permit is reserved for tokens that \
                 were accepted before",
            ),
            Self::WaitBeyondTimeout => f.write_str(
                "max_wait must be shorter than verification_timeout, which would end it first",
            ),
            Self::Realm(realm) => write!(
                f,
                "the realm {realm:?} cannot be used in a WWW-Authenticate header: \
                 use visible ASCII and spaces without '\"' and '\\'"
            ),
            Self::NoRandomness => {
                f.write_str("the operating system gave no random bytes for the cache's digest key")
            }
        }
    }
}

impl std::error::Error for AuthenticatorBuildError {}
