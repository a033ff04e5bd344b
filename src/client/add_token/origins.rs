//! Where a token may go.

use std::{fmt, sync::Arc};

use http::{Uri, uri::Scheme};

/// The origins (RFC 6454 §4: scheme, host and port) that get the token.
#[derive(Clone, Debug)]
pub(super) enum Origins {
    Only(Arc<[Origin]>),
    Any,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Origin {
    https: bool,
    /// In lower case, which is how hosts are compared (RFC 3986 §3.2.2).
    host: Box<str>,
    port: u16,
}

impl Origins {
    pub(super) fn only<I>(origins: I) -> Result<Self, InvalidOrigin>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let only = origins
            .into_iter()
            .map(|origin| Origin::parse(origin.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        if only.is_empty() { Err(InvalidOrigin::None) } else { Ok(Self::Only(only.into())) }
    }

    /// Whether a request to `uri` may have the token. A `uri` without scheme and host may not:
    /// nobody can tell here where it goes.
    pub(super) fn allow(&self, uri: &Uri) -> bool {
        match self {
            Self::Only(only) => only.iter().any(|origin| origin.is_of(uri)),
            Self::Any => true,
        }
    }
}

impl Origin {
    fn parse(text: &str) -> Result<Self, InvalidOrigin> {
        let invalid = |why| InvalidOrigin::Malformed { origin: text.to_owned(), why };
        if text.is_empty() {
            return Err(InvalidOrigin::Empty);
        }
        let uri: Uri = text.parse().map_err(|_| invalid("it is not a URL"))?;
        let scheme = uri
            .scheme()
            .ok_or_else(|| invalid("it has no scheme: begin it with https:// or http://"))?;
        if *scheme != Scheme::HTTPS && *scheme != Scheme::HTTP {
            return Err(invalid("its scheme is neither https nor http"));
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(invalid("it has a user name in it"));
        }
        if uri.path_and_query().is_some_and(|path| path.as_str() != "/") {
            return Err(invalid(
                "it has a path: a token is for a whole origin; leave the path out",
            ));
        }
        let port = port(&uri).ok_or_else(|| invalid("its port is not a number from 1 to 65535"))?;
        let host =
            uri.host().filter(|host| !host.is_empty()).ok_or_else(|| invalid("it has no host"))?;
        Ok(Self { https: *scheme == Scheme::HTTPS, host: host.to_ascii_lowercase().into(), port })
    }

    fn is_of(&self, uri: &Uri) -> bool {
        let scheme = if self.https { Scheme::HTTPS } else { Scheme::HTTP };
        uri.scheme() == Some(&scheme)
            && uri.host().is_some_and(|host| host.eq_ignore_ascii_case(&self.host))
            && port(uri) == Some(self.port)
    }
}

/// The port that a connection to `uri` is made to; `None` if what stands there is no port.
fn port(uri: &Uri) -> Option<u16> {
    let authority = uri.authority()?;
    let (_, host_and_port) =
        authority.as_str().rsplit_once('@').unwrap_or(("", authority.as_str()));
    // The colons within the brackets of an IPv6 address precede no port.
    let (_, after_brackets) = host_and_port.rsplit_once(']').unwrap_or(("", host_and_port));
    match after_brackets.rsplit_once(':') {
        None | Some((_, "")) => Some(if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 }),
        Some(_) => authority.port_u16().filter(|port| *port != 0),
    }
}

/// Why an origin cannot be on the list of those that get the token.
///
/// ```
/// use tower_kube_auth::client::{AddTokenLayer, InvalidOrigin, StaticToken, Token};
///
/// let source = StaticToken::new(Token::new("a.b.c")?);
/// let error = AddTokenLayer::new(source, ["orders.shop.svc"]).unwrap_err();
/// assert!(matches!(error, InvalidOrigin::Malformed { .. }));
/// assert!(error.to_string().contains("begin it with https://"));
/// # Ok::<(), tower_kube_auth::MalformedToken>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidOrigin {
    /// The list is empty.
    None,
    /// An origin is the empty string.
    Empty,
    /// An origin is not `scheme://host` or `scheme://host:port`.
    Malformed {
        /// The origin.
        origin: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl fmt::Display for InvalidOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str(
                "no origin is given, so no request would ever get the token: name the service, as in \
                 \"https://orders.shop.svc\"",
            ),
            Self::Empty => {
                f.write_str("an origin is the empty string: is an environment variable unset?")
            }
            Self::Malformed { origin, why } => write!(f, "{origin:?} is not an origin: {why}"),
        }
    }
}

impl std::error::Error for InvalidOrigin {}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(origin: &str, uri: &str) -> bool {
        Origins::only([origin]).unwrap().allow(&uri.parse().unwrap())
    }

    #[test]
    fn scheme_host_and_port_must_be_the_same() {
        let cases = [
            ("https://orders.shop.svc", "https://orders.shop.svc/v1?x=y", true),
            ("https://orders.shop.svc", "https://ORDERS.shop.SVC/", true),
            ("https://Orders.shop.svc/", "https://orders.shop.svc/", true),
            ("https://orders.shop.svc", "https://orders.shop.svc:443/", true),
            ("https://orders.shop.svc:443", "https://orders.shop.svc/", true),
            ("http://orders.shop.svc", "http://orders.shop.svc:80/", true),
            ("http://orders.shop.svc:8080", "http://orders.shop.svc:8080/", true),
            ("http://[::1]:8080", "http://[::1]:8080/", true),
            ("http://[::1]", "http://[::1]:80/", true),
            ("http://[::1]", "http://[::1]:8080/", false),
            ("https://80", "https://80/", true),
            ("https://80", "https://80:8080/", false),
            ("https://4", "https://4:44/", false),
            ("https://443", "https://443:443/", true),
            ("https://orders.shop.svc", "http://orders.shop.svc/", false),
            ("https://orders.shop.svc", "http://orders.shop.svc:443/", false),
            ("http://orders.shop.svc", "https://orders.shop.svc/", false),
            ("https://orders.shop.svc", "https://orders.shop.svc:8443/", false),
            ("https://orders.shop.svc", "https://orders.shop.svc.evil.example/", false),
            ("https://orders.shop.svc", "https://evil.example/orders.shop.svc", false),
            ("https://orders.shop.svc", "https://orders.shop.svc@evil.example/", false),
            ("https://orders.shop.svc", "https://orders.shop.svc:443@evil.example/", false),
            ("https://orders.shop.svc", "https://orders.shop.svc./", false),
            ("https://orders.shop.svc", "https://xorders.shop.svc/", false),
            ("http://orders.shop.svc", "/v1", false),
            ("http://orders.shop.svc", "orders.shop.svc:80", false),
        ];
        for (origin, uri, expected) in cases {
            assert_eq!(allowed(origin, uri), expected, "{origin} {uri}");
        }
    }

    #[test]
    fn an_origin_with_a_mistake_in_it_is_rejected_and_says_what_it_is() {
        let cases = [
            ("orders.shop.svc", "scheme"),
            ("orders.shop.svc:80", "scheme"),
            ("ftp://orders", "neither"),
            ("https://orders/v1", "path"),
            ("https://orders?x", "path"),
            ("https://user@orders", "user"),
            ("https://orders:99999", "port"),
            ("https://orders:0", "port"),
            ("https://", "not a URL"),
            ("https://*.shop.svc/ x", "not a URL"),
            ("/orders", "scheme"),
        ];
        for (origin, why) in cases {
            let error = Origins::only([origin]).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert_eq!(Origins::only([""]).unwrap_err(), InvalidOrigin::Empty);
        assert_eq!(Origins::only(Vec::<String>::new()).unwrap_err(), InvalidOrigin::None);
    }
}
