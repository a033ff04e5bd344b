//! Closures as authorizers.

use std::{
    fmt,
    future::{Future, ready},
};

use super::{
    authorizer::Authorizer, decision::Decision, error::AuthorizeError, request_head::RequestHead,
};
use crate::identity::ServiceAccountIdentity;

/// Returns an authorizer that decides by calling `decide`, which must not block.
///
/// ```
/// use tower_kube_auth::authorizer::{Decision, DenyReason, authorize_fn};
///
/// let own_namespace_only = authorize_fn(|caller, head| {
///     let mut segments = head.uri().path().split('/').skip(1);
///     match (segments.next(), segments.next()) {
///         (Some("namespaces"), Some(namespace)) if namespace == caller.namespace() => {
///             Decision::Allow
///         }
///         _ => Decision::Deny(DenyReason::Custom("another namespace")),
///     }
/// });
/// # let _ = own_namespace_only;
/// ```
pub fn authorize_fn<F>(decide: F) -> AuthorizeFn<F>
where
    F: Fn(&ServiceAccountIdentity, RequestHead<'_>) -> Decision + Send + Sync + 'static,
{
    AuthorizeFn(decide)
}

/// The authorizer of [`authorize_fn`].
#[derive(Clone, Copy)]
pub struct AuthorizeFn<F>(F);

impl<F> Authorizer for AuthorizeFn<F>
where
    F: Fn(&ServiceAccountIdentity, RequestHead<'_>) -> Decision + Send + Sync + 'static,
{
    fn authorize(
        &self,
        caller: &ServiceAccountIdentity,
        head: RequestHead<'_>,
    ) -> impl Future<Output = Result<Decision, AuthorizeError>> + Send {
        ready(Ok((self.0)(caller, head)))
    }

    fn authorize_now(
        &self,
        caller: &ServiceAccountIdentity,
        head: RequestHead<'_>,
    ) -> Option<Decision> {
        Some((self.0)(caller, head))
    }
}

impl<F> fmt::Debug for AuthorizeFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthorizeFn")
    }
}
