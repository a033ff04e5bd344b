//! Parts of the API that tests count and break.

/// A part of the API that can be counted and broken on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Endpoint {
    /// `POST /apis/authentication.k8s.io/v1/tokenreviews`
    TokenReview,
    /// `POST /api/v1/namespaces/{namespace}/serviceaccounts/{name}/token`
    TokenRequest,
    /// `GET /openid/v1/jwks`
    Jwks,
    /// `GET /.well-known/openid-configuration`
    Discovery,
    /// `POST /apis/authorization.k8s.io/v1/subjectaccessreviews`
    SubjectAccessReview,
    /// Every request, those for objects included.
    All,
}
