//! Recognition of gRPC requests.

use http::{Method, Request, header};

/// gRPC and its variants (`application/grpc+proto`, `application/grpc-web`) read the outcome from
/// `grpc-status`.
///
/// They always POST. A rejection of any other method must not have the status 200, which a shared
/// cache may store for all clients.
pub(super) fn is_grpc<B>(request: &Request<B>) -> bool {
    let content = request.headers().get(header::CONTENT_TYPE);
    request.method() == Method::POST
        && content.is_some_and(|content| content.as_bytes().starts_with(b"application/grpc"))
}
