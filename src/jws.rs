//! The compact serialisation of a JWS (RFC 7515 §3.1), read strictly.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// The three parts of a token, split and not yet decoded. Nothing in it is verified.
///
/// Each part decodes from one spelling only: base64url without padding and without stray bits (RFC
/// 7515 §2). kube-apiserver is more lenient: it also takes the spellings that differ in a part's
/// unused last bits. Each would be another token to the cache, and cost a call of its own.
#[derive(Clone, Copy)]
pub(crate) struct CompactJws<'a> {
    token: &'a str,
    header_end: usize,
    claims_end: usize,
}

impl<'a> CompactJws<'a> {
    /// Splits `token`; `None` unless it has exactly three parts.
    pub(crate) fn split(token: &'a str) -> Option<Self> {
        let header_end = token.find('.')?;
        let claims_end = token.rfind('.').filter(|end| *end > header_end)?;
        let jws = Self { token, header_end, claims_end };
        (!jws.claims().contains('.')).then_some(jws)
    }

    /// Returns what the signature covers: the first two parts with their dot.
    #[cfg(feature = "jwks")]
    pub(crate) fn signed_text(self) -> &'a str {
        self.token.get(..self.claims_end).unwrap_or_default()
    }

    pub(crate) fn header(self) -> &'a str {
        self.token.get(..self.header_end).unwrap_or_default()
    }

    pub(crate) fn claims(self) -> &'a str {
        self.token.get(self.header_end + 1..self.claims_end).unwrap_or_default()
    }

    pub(crate) fn signature(self) -> &'a str {
        self.token.get(self.claims_end + 1..).unwrap_or_default()
    }
}

/// Returns the bytes of one part, if it is spelled strictly.
pub(crate) fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

/// Appends the bytes of one part, if it is spelled strictly.
#[cfg(feature = "server")]
pub(crate) fn decode_into(part: &str, decoded: &mut Vec<u8>) -> Option<()> {
    URL_SAFE_NO_PAD.decode_vec(part, decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_exactly_three_parts() {
        let jws = CompactJws::split("aa.bb.cc").unwrap();
        assert_eq!((jws.header(), jws.claims(), jws.signature()), ("aa", "bb", "cc"));
        let empty = CompactJws::split("..").unwrap();
        assert_eq!((empty.header(), empty.claims(), empty.signature()), ("", "", ""));
        for token in ["", "a", "a.b", "a.b.c.d", "..."] {
            assert!(CompactJws::split(token).is_none(), "{token}");
        }
    }

    #[test]
    fn a_part_has_one_spelling() {
        assert_eq!(decode("c2k").as_deref(), Some(&b"si"[..]));
        for other in ["c2l", "c2k=", "c2 k", "c2k\n", "c", "c2+/"] {
            assert!(decode(other).is_none(), "{other}");
        }
    }
}
