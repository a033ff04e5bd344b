//! The trait that every authorizer implements.

use std::future::{Future, ready};

use super::{decision::Decision, error::AuthorizeError, request_head::RequestHead};
use crate::{identity::ServiceAccountIdentity, readiness::Need};

/// Decides whether a caller may do what its request asks for.
///
/// `Ok` is a decision; `Err` means that there is none, for a reason that says nothing about the
/// caller. The layer answers a denial with 403 and an error with 503.
///
/// ```
/// use std::future::{Future, ready};
/// use tower_kube_auth::{
///     ServiceAccountIdentity,
///     authorizer::{AuthorizeError, Authorizer, Decision, DenyReason, RequestHead},
/// };
///
/// /// Lets ServiceAccounts read, and those of the namespace `ops` also write.
/// struct OpsWrites;
///
/// impl Authorizer for OpsWrites {
///     fn authorize(
///         &self,
///         caller: &ServiceAccountIdentity,
///         head: RequestHead<'_>,
///     ) -> impl Future<Output = Result<Decision, AuthorizeError>> + Send {
///         let allowed = head.method().is_safe() || caller.namespace() == "ops";
///         ready(Ok(if allowed {
///             Decision::Allow
///         } else {
///             Decision::Deny(DenyReason::Custom("read-only"))
///         }))
///     }
/// }
/// ```
pub trait Authorizer: Send + Sync + 'static {
    /// Decides about one request.
    ///
    /// The future is dropped if the request is, and there is no time limit around it: bound any
    /// I/O. A panic is answered as an error.
    ///
    /// # Errors
    ///
    /// [`AuthorizeError`] if no decision can be reached.
    fn authorize(
        &self,
        caller: &ServiceAccountIdentity,
        head: RequestHead<'_>,
    ) -> impl Future<Output = Result<Decision, AuthorizeError>> + Send;

    /// Decides without waiting, or returns `None`; then [`authorize`](Self::authorize) decides.
    /// Must come to the same decision as that. Returns `None` by default.
    ///
    /// A decision made here costs no allocation, and the inner service is not cloned.
    fn authorize_now(
        &self,
        caller: &ServiceAccountIdentity,
        head: RequestHead<'_>,
    ) -> Option<Decision> {
        let _ = (caller, head);
        None
    }

    /// Checks what this authorizer needs, a right for instance. Defaults to no needs. An authorizer
    /// that wraps another one forwards it.
    fn check_needs(&self) -> impl Future<Output = Vec<Need>> + Send {
        ready(Vec::new())
    }
}
