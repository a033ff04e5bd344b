//! Tokens to send: never printed.

use std::{fmt, time::SystemTime};

use bytes::Bytes;
use http::HeaderValue;
use zeroize::Zeroizing;

use crate::token::{BearerToken, MalformedToken};

const SCHEME: &[u8] = b"Bearer ";

/// A bearer token for outgoing requests, and when it expires.
///
/// It is stored once, as the value of an `Authorization` header that is marked
/// [sensitive](HeaderValue::is_sensitive). Clones share that one copy, which is wiped when the last
/// of them is dropped (what HTTP clients copy into their buffers is theirs). `Debug` shows the
/// expiry only, and there is no `Display`.
///
/// ```
/// use std::time::{Duration, UNIX_EPOCH};
/// use tower_kube_auth::client::Token;
///
/// let token = Token::new("header.payload.signature")?
///     .with_expiry(UNIX_EPOCH + Duration::from_secs(1_700_000_000));
/// assert_eq!(token.expose_secret(), "header.payload.signature");
/// assert!(token.header_value().is_sensitive());
/// assert!(!format!("{token:?}").contains("payload"));
/// # Ok::<(), tower_kube_auth::MalformedToken>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    header: HeaderValue,
    expires_at: Option<SystemTime>,
}

impl Token {
    /// Creates a token without an expiry, which is always valid.
    ///
    /// `token` must be a `token68` of at most 16 KiB, like everything in a bearer header (RFC 6750
    /// §2.1).
    ///
    /// # Errors
    ///
    /// [`MalformedToken`], which never contains any of the token.
    pub fn new(token: impl Into<String>) -> Result<Self, MalformedToken> {
        let token = Zeroizing::new(token.into());
        let checked = BearerToken::parse(&token)?.expose_secret().as_bytes();
        let mut value = Zeroizing::new(Vec::with_capacity(SCHEME.len() + checked.len()));
        value.extend_from_slice(SCHEME);
        value.extend_from_slice(checked);
        let value = Bytes::from_owner(value);
        // token68 is visible ASCII, so this cannot fail; the error is there to keep the path free
        // of panics.
        let mut header =
            HeaderValue::from_maybe_shared(value).map_err(|_| MalformedToken::NotToken68)?;
        header.set_sensitive(true);
        Ok(Self { header, expires_at: None })
    }

    /// Sets when the token expires. Never by default.
    #[must_use]
    pub fn with_expiry(mut self, at: SystemTime) -> Self {
        self.expires_at = Some(at);
        self
    }

    /// Returns the token itself. It must not go into a log or an error.
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        let token = self.header.as_bytes().get(SCHEME.len()..).unwrap_or_default();
        std::str::from_utf8(token).unwrap_or_default()
    }

    /// Returns `Bearer <token>`, for an `Authorization` header. It is marked sensitive, so that
    /// `Debug` of a header map and HTTP/2's compression leave it out. Costs a reference count.
    #[must_use]
    pub fn header_value(&self) -> HeaderValue {
        self.header.clone()
    }

    /// Returns when the token expires; `None` if never.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.expires_at
    }

    /// Returns whether the token is valid at `time`. At the moment of its expiry it is not (RFC
    /// 7519 §4.1.4).
    #[must_use]
    pub fn is_valid_at(&self, time: SystemTime) -> bool {
        self.expires_at.is_none_or(|expiry| time < expiry)
    }

    /// Returns whether both have the same secret, regardless of their expiry.
    pub(super) fn is_same_secret(&self, other: &Self) -> bool {
        self.header == other.header
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_token_is_valid_until_just_before_its_expiry() {
        let expiry = UNIX_EPOCH + Duration::from_secs(100);
        let token = Token::new("a.b.c").unwrap();
        assert!(token.is_valid_at(expiry + Duration::from_secs(1_000_000)), "no expiry, no end");
        let token = token.with_expiry(expiry);
        assert!(token.is_valid_at(expiry - Duration::from_nanos(1)));
        assert!(!token.is_valid_at(expiry));
    }

    #[test]
    fn what_cannot_stand_in_a_header_is_rejected_without_being_repeated() {
        for malformed in ["", " ", "two words", "line\nbreak", "gr\u{fc}n", "a=b"] {
            let error = Token::new(malformed).unwrap_err();
            assert!(
                malformed.trim().is_empty() || !format!("{error:?} {error}").contains(malformed)
            );
        }
    }

    #[test]
    fn clones_share_one_copy_that_header_maps_do_not_print() {
        let token = Token::new("very-secret").unwrap();
        assert_eq!(
            token.header_value().as_bytes().as_ptr(),
            token.clone().header_value().as_bytes().as_ptr()
        );
        let headers: http::HeaderMap =
            [(http::header::AUTHORIZATION, token.header_value())].into_iter().collect();
        assert!(!format!("{headers:?} {token:?}").contains("secret"));
        assert_eq!(token.header_value().to_str().unwrap(), "Bearer very-secret");
    }
}
