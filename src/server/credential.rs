//! The strict parser of the `Authorization` header.

use http::{HeaderMap, header};

use crate::token::{MalformedToken, PresentedToken};

const BEARER: &[u8] = b"bearer";

/// Returns the bearer token of the `Authorization` header; `None` if there is no such header, or it
/// has another scheme. The token's alphabet is not checked yet.
///
/// Stricter than kube-apiserver, which takes the first of several headers and the second of several
/// words: a header that two parsers could read differently is malformed ([RFC 6750 §2.1],
/// [RFC 9110 §11.6.2]).
///
/// [RFC 6750 §2.1]: https://www.rfc-editor.org/rfc/rfc6750#section-2.1
/// [RFC 9110 §11.6.2]: https://www.rfc-editor.org/rfc/rfc9110#section-11.6.2
#[inline]
pub(super) fn bearer_token(
    headers: &HeaderMap,
    max_length: usize,
) -> Result<Option<PresentedToken<'_>>, MalformedToken> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(MalformedToken::Duplicate);
    }
    let value = value.as_bytes();
    let (scheme, rest) = match value.iter().position(|byte| *byte == b' ') {
        Some(space) => value.split_at(space),
        None => (value, &[][..]),
    };
    if !scheme.eq_ignore_ascii_case(BEARER) {
        return if is_misspelled_bearer(scheme) {
            Err(MalformedToken::NotToken68)
        } else {
            Ok(None)
        };
    }
    PresentedToken::new(rest.get(1..).unwrap_or_default(), max_length).map(Some)
}

/// Returns whether `scheme` begins with "bearer" and goes on with a byte that no name of a scheme
/// has (`tchar`, RFC 9110 §5.6.2): a misspelled bearer credential, not one of another scheme.
#[cold]
fn is_misspelled_bearer(scheme: &[u8]) -> bool {
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    match (scheme.get(..BEARER.len()), scheme.get(BEARER.len())) {
        (Some(start), Some(next)) => start.eq_ignore_ascii_case(BEARER) && !is_tchar(next),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(value: &[u8]) -> Result<Option<String>, MalformedToken> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
        let token = bearer_token(&headers, 100)?.map(PresentedToken::parse).transpose()?;
        Ok(token.map(|token| token.expose_secret().to_owned()))
    }

    #[test]
    fn the_scheme_is_case_insensitive() {
        for value in ["Bearer token", "bearer token", "BEARER token", "bEaReR token"] {
            assert_eq!(read(value.as_bytes()), Ok(Some("token".into())), "{value}");
        }
    }

    #[test]
    fn another_scheme_is_no_bearer_token() {
        for value in [
            "",
            "Basic 123",
            "bear token",
            "Bearertoken",
            "Bearer.token",
            "bearer-x token",
            "token",
            " Bearer token",
        ] {
            assert_eq!(read(value.as_bytes()), Ok(None), "{value}");
        }
    }

    #[test]
    fn a_header_that_parsers_could_read_differently_is_malformed() {
        assert_eq!(read(b"Bearer"), Err(MalformedToken::Empty));
        assert_eq!(read(b"Bearer "), Err(MalformedToken::Empty));
        for value in [
            &b"Bearer  token"[..],
            b"Bearer token a",
            b"Bearer token   a",
            b"Bearer token ",
            b"Bearer a\tb",
            b"Bearer \xff",
            b"Bearer a,b",
            b"Bearer \"a\"",
        ] {
            assert_eq!(read(value), Err(MalformedToken::NotToken68), "{value:?}");
        }
        assert_eq!(
            read(format!("Bearer {}", "a".repeat(101)).as_bytes()),
            Err(MalformedToken::TooLong { limit: 100 })
        );
    }

    #[test]
    fn bearer_without_a_space_is_malformed_and_not_another_scheme() {
        for value in
            ["Bearer\ttok", "Bearer,tok", "bearer=tok", "BEARER: tok", "Bearer\"tok\"", "Bearer:"]
        {
            assert_eq!(read(value.as_bytes()), Err(MalformedToken::NotToken68), "{value}");
        }
    }

    #[test]
    fn two_headers_are_malformed_whatever_their_content() {
        for second in ["Bearer token", "Basic 123", ""] {
            let mut headers = HeaderMap::new();
            headers.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer token"));
            headers.append(header::AUTHORIZATION, HeaderValue::from_static(second));
            assert_eq!(
                bearer_token(&headers, 100).err(),
                Some(MalformedToken::Duplicate),
                "{second:?}"
            );
        }
    }
}
