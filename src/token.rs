//! Bearer tokens: checked for form, never printed.

use std::fmt;

use zeroize::Zeroizing;

/// A bearer token in the strict `token68` form of [RFC 9110 §11.2], borrowed from the request.
///
/// kube-apiserver builds an `Authorization` header from the token of a TokenReview, so a token with
/// a space in it could be authenticated as somebody else. This type cannot hold such a token.
///
/// `Debug` shows the length only; there is no `Display`.
///
/// ```
/// use tower_kube_auth::BearerToken;
///
/// let token = BearerToken::parse("header.payload.signature").unwrap();
/// assert_eq!(format!("{token:?}"), "BearerToken(24 bytes, redacted)");
/// assert!(BearerToken::parse("two words").is_err());
/// ```
///
/// [RFC 9110 §11.2]: https://www.rfc-editor.org/rfc/rfc9110#section-11.2
#[derive(Clone, Copy)]
pub struct BearerToken<'a>(&'a str);

impl<'a> BearerToken<'a> {
    /// The default length limit, in bytes: 16 KiB. A ServiceAccount token is about 1 kB.
    pub const DEFAULT_MAX_LENGTH: usize = 16 * 1024;

    /// Checks `token` for form, with the default length limit.
    ///
    /// # Errors
    ///
    /// [`MalformedToken`] if it is empty, longer than [`Self::DEFAULT_MAX_LENGTH`], or not
    /// `token68`.
    pub fn parse(token: &'a str) -> Result<Self, MalformedToken> {
        Self::parse_bytes(token.as_bytes(), Self::DEFAULT_MAX_LENGTH)
    }

    /// Checks `token` for form, with a length limit of `max_length` bytes.
    ///
    /// # Errors
    ///
    /// [`MalformedToken`] if it is empty, longer than `max_length`, or not `token68`.
    pub fn parse_bytes(token: &'a [u8], max_length: usize) -> Result<Self, MalformedToken> {
        PresentedToken::new(token, max_length)?.parse()
    }

    /// Returns the token itself. It must not go into a log, an error or the key of a map.
    #[must_use]
    #[inline]
    pub fn expose_secret(&self) -> &'a str {
        self.0
    }

    /// Returns a copy that owns its text and wipes it when dropped.
    pub(crate) fn to_owned(self) -> OwnedBearerToken {
        OwnedBearerToken(Zeroizing::new(self.0.into()))
    }
}

impl fmt::Debug for BearerToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BearerToken({} bytes, redacted)", self.0.len())
    }
}

/// A token as a request presents it: within the length limit, its alphabet not checked yet.
///
/// A cache hit needs no more, because these bytes were parsed when they were accepted.
#[derive(Clone, Copy)]
pub(crate) struct PresentedToken<'a>(&'a [u8]);

impl<'a> PresentedToken<'a> {
    #[inline]
    pub(crate) fn new(token: &'a [u8], max_length: usize) -> Result<Self, MalformedToken> {
        match token.len() {
            0 => Err(MalformedToken::Empty),
            length if length > max_length => Err(MalformedToken::TooLong { limit: max_length }),
            _ => Ok(Self(token)),
        }
    }

    #[inline]
    pub(crate) fn expose_secret(self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn parse(self) -> Result<BearerToken<'a>, MalformedToken> {
        if !is_token68(self.0) {
            return Err(MalformedToken::NotToken68);
        }
        // token68 is ASCII, so this cannot fail.
        std::str::from_utf8(self.0).map(BearerToken).map_err(|_| MalformedToken::NotToken68)
    }
}

impl<'a> From<BearerToken<'a>> for PresentedToken<'a> {
    fn from(token: BearerToken<'a>) -> Self {
        Self(token.0.as_bytes())
    }
}

/// A token that outlives its request, for a lookup in a task of its own.
pub(crate) struct OwnedBearerToken(Zeroizing<Box<str>>);

impl OwnedBearerToken {
    pub(crate) fn borrow(&self) -> BearerToken<'_> {
        BearerToken(&self.0)
    }
}

/// Why a credential is not a bearer token. Contains none of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MalformedToken {
    /// Nothing follows the scheme.
    Empty,
    /// It is longer than the limit.
    TooLong {
        /// The limit, in bytes.
        limit: usize,
    },
    /// It has a byte outside of `token68` (RFC 9110 §11.2): white space, a control character,
    /// non-ASCII, an inner `=`.
    NotToken68,
    /// There is more than one `Authorization` header (RFC 9110 §5.3 allows one).
    Duplicate,
}

impl fmt::Display for MalformedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the bearer token is empty"),
            Self::TooLong { limit } => write!(f, "the bearer token is longer than {limit} bytes"),
            Self::NotToken68 => f.write_str(
                "the bearer token has a character that token68 (RFC 9110) does not allow",
            ),
            Self::Duplicate => f.write_str("there is more than one Authorization header"),
        }
    }
}

impl std::error::Error for MalformedToken {}

/// `1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`
///
/// Reads every byte without a branch, so that the compiler vectorises the loop.
fn is_token68(token: &[u8]) -> bool {
    let padding = token.iter().rev().take_while(|byte| **byte == b'=').count();
    let (body, _) = token.split_at(token.len() - padding);
    let foreign = body.iter().fold(0_u8, |foreign, byte| {
        // '-', '.', '/' and the digits are neighbours in ASCII.
        let member = (byte.wrapping_sub(b'-') <= b'9' - b'-')
            | ((byte | 0x20).wrapping_sub(b'a') < 26)
            | (*byte == b'_')
            | (*byte == b'~')
            | (*byte == b'+');
        foreign | u8::from(!member)
    });
    !body.is_empty() && foreign == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_token68_alphabet_is_accepted() {
        for byte in 0..=u8::MAX {
            let expected = byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
            let token = [b'a', byte, b'b'];
            assert_eq!(BearerToken::parse_bytes(&token, 100).is_ok(), expected, "byte {byte:#04x}");
        }
    }

    #[test]
    fn padding_stands_only_at_the_end_and_not_alone() {
        assert!(BearerToken::parse("abc==").is_ok());
        assert_eq!(BearerToken::parse("a=b").unwrap_err(), MalformedToken::NotToken68);
        assert_eq!(BearerToken::parse("==").unwrap_err(), MalformedToken::NotToken68);
    }

    #[test]
    fn the_length_limit_is_inclusive() {
        assert!(BearerToken::parse_bytes(b"abcd", 4).is_ok());
        assert_eq!(
            BearerToken::parse_bytes(b"abcde", 4).unwrap_err(),
            MalformedToken::TooLong { limit: 4 }
        );
        assert_eq!(BearerToken::parse("").unwrap_err(), MalformedToken::Empty);
    }
}
