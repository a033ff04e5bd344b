//! The part of a request that an authorizer sees.

use http::{Extensions, HeaderMap, Method, Request, Uri, request::Parts};

/// A request without its body: method, URI, headers and extensions.
///
/// The authenticate layer has removed the `Authorization` header by then, unless it was told to
/// keep it.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    extensions: &'a Extensions,
}

impl<'a> RequestHead<'a> {
    /// Returns the method.
    #[must_use]
    pub fn method(self) -> &'a Method {
        self.method
    }

    /// Returns the URI. Within a nested axum router it lacks the prefix of the nest; see
    /// `axum::extract::OriginalUri` in the extensions.
    #[must_use]
    pub fn uri(self) -> &'a Uri {
        self.uri
    }

    /// Returns the headers.
    #[must_use]
    pub fn headers(self) -> &'a HeaderMap {
        self.headers
    }

    /// Returns the extensions.
    #[must_use]
    pub fn extensions(self) -> &'a Extensions {
        self.extensions
    }
}

impl<'a, B> From<&'a Request<B>> for RequestHead<'a> {
    fn from(request: &'a Request<B>) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            extensions: request.extensions(),
        }
    }
}

impl<'a> From<&'a Parts> for RequestHead<'a> {
    fn from(parts: &'a Parts) -> Self {
        Self {
            method: &parts.method,
            uri: &parts.uri,
            headers: &parts.headers,
            extensions: &parts.extensions,
        }
    }
}
