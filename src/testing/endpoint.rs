//! Endpoints that tests count and inject faults into.

/// An endpoint with its own request count and fault.
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
    /// `POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews`
    SelfSubjectAccessReview,
    /// `GET` of a list of objects, such as `/api/v1/pods`
    List,
    /// The same with `watch=true`. In progress until the watch ends.
    Watch,
    /// Every request, including those for objects.
    All,
}
