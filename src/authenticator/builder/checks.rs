//! The checks of all options.

use std::time::Duration;

use super::{super::build_error::AuthenticatorBuildError, AuthenticatorBuilder};
use crate::{audience::Audiences, verifier::Verifier};

/// Upper bound for the TTLs: the default lifetime of a projected token.
const MAX_TTL: Duration = Duration::from_secs(3600);
/// Upper bound for `serve_stale`.
const MAX_STALE: Duration = Duration::from_secs(24 * 3600);
/// Upper bound for `max_token_length`, in bytes. HTTP servers limit headers far below it.
const MAX_TOKEN_LENGTH: usize = 1024 * 1024;

impl AuthenticatorBuilder {
    /// Checks all options, and returns the audiences.
    pub(super) fn checked(&self) -> Result<Audiences, AuthenticatorBuildError> {
        let audiences = self.checked_audiences()?;
        self.check_numbers()?;
        if self.realm.is_empty() || !self.realm.bytes().all(is_quotable) {
            return Err(AuthenticatorBuildError::Realm(self.realm.clone()));
        }
        if self.issuers.iter().any(String::is_empty) {
            return Err(AuthenticatorBuildError::EmptyIssuer);
        }
        Ok(audiences)
    }

    fn checked_audiences(&self) -> Result<Audiences, AuthenticatorBuildError> {
        match (self.any_audience, self.api_server_audience, self.audiences.is_empty()) {
            (false, false, _) => {
                Audiences::new(&self.audiences).map_err(AuthenticatorBuildError::Audiences)
            }
            (true, false, true) => Ok(Audiences::dangerous_any()),
            (false, true, true) if self.verifier.supports_api_server_audience() => {
                Ok(Audiences::api_server())
            }
            (false, true, true) => Err(AuthenticatorBuildError::ApiServerAudienceUnsupported),
            (true, _, _) => Err(AuthenticatorBuildError::AnyAndSomeAudiences),
            (false, true, false) => Err(AuthenticatorBuildError::ApiServerAndOtherAudiences),
        }
    }

    fn check_numbers(&self) -> Result<(), AuthenticatorBuildError> {
        let zero = |option, is_zero: bool| {
            if is_zero { Err(AuthenticatorBuildError::Zero(option)) } else { Ok(()) }
        };
        let too_long = |option, ttl, limit| {
            if ttl > limit {
                Err(AuthenticatorBuildError::TooLong { option, ttl, limit })
            } else {
                Ok(())
            }
        };
        zero("cache_capacity", self.capacities.accepted == 0)?;
        zero("reject_capacity", self.capacities.rejected == 0)?;
        zero("max_in_flight", self.max_in_flight == 0)?;
        zero("verification_timeout", self.verification_timeout.is_zero())?;
        zero("max_token_length", self.max_token_length == 0)?;
        too_long("cache_ttl", self.lifetimes.accepted, MAX_TTL)?;
        too_long("reject_ttl", self.lifetimes.rejected, MAX_TTL)?;
        too_long("serve_stale", self.lifetimes.stale, MAX_STALE)?;
        if self.lifetimes.accepted.is_zero() && !self.lifetimes.stale.is_zero() {
            return Err(AuthenticatorBuildError::StaleWithoutCache);
        }
        if self.max_in_flight < 2 {
            return Err(AuthenticatorBuildError::NoReservedPermit);
        }
        if self.max_in_flight > tokio::sync::Semaphore::MAX_PERMITS {
            return Err(AuthenticatorBuildError::TooLarge("max_in_flight"));
        }
        if self.max_token_length > MAX_TOKEN_LENGTH {
            return Err(AuthenticatorBuildError::TooLarge("max_token_length"));
        }
        if self.max_wait >= self.verification_timeout {
            return Err(AuthenticatorBuildError::WaitBeyondTimeout);
        }
        Ok(())
    }
}

/// `qdtext` of RFC 9110 §5.6.4, without characters that need an escape.
fn is_quotable(byte: u8) -> bool {
    (byte == b' ' || byte.is_ascii_graphic()) && byte != b'"' && byte != b'\\'
}
