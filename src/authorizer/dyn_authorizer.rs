//! The erased form of [`Authorizer`].

use std::{
    any::Any,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
};

use super::{
    authorizer::Authorizer,
    decision::Decision,
    error::{AuthorizeError, AuthorizeErrorKind},
    request_head::RequestHead,
};
use crate::{
    catch_panic::{Panicked, call_caught, poll_caught},
    clock::Clock,
    identity::ServiceAccountIdentity,
    readiness::Need,
    warn_limit::WarnLimit,
};

/// An authorizer of any type, for a service that chooses it at run time. Cheap to clone.
///
/// A panic of the authorizer becomes an error, and so a 503.
///
/// ```
/// use tower_kube_auth::authorizer::{AllowList, DynAuthorizer};
///
/// # fn example(allowed: Option<&str>) -> Result<DynAuthorizer, Box<dyn std::error::Error>> {
/// let authorizer = match allowed {
///     Some(allowed) => DynAuthorizer::new(allowed.parse::<AllowList>()?),
///     None => DynAuthorizer::new(AllowList::any_authenticated()),
/// };
/// # Ok(authorizer) }
/// # example(Some("shop/checkout,ops/*")).unwrap();
/// ```
#[derive(Clone)]
pub struct DynAuthorizer {
    authorizer: Arc<dyn Erased>,
    /// Limits the log lines of panics, which requests may cause.
    warn_limit: Arc<WarnLimit>,
}

type Authorization<'a> =
    Pin<Box<dyn Future<Output = Result<Decision, AuthorizeError>> + Send + 'a>>;

type Checking<'a> = Pin<Box<dyn Future<Output = Vec<Need>> + Send + 'a>>;

trait Erased: Send + Sync {
    fn authorize<'a>(
        &'a self,
        caller: &'a ServiceAccountIdentity,
        head: RequestHead<'a>,
    ) -> Authorization<'a>;
    fn authorize_now(
        &self,
        caller: &ServiceAccountIdentity,
        head: RequestHead<'_>,
    ) -> Option<Decision>;
    fn check_needs(&self) -> Checking<'_>;
}

impl<A: Authorizer> Erased for A {
    fn authorize<'a>(
        &'a self,
        caller: &'a ServiceAccountIdentity,
        head: RequestHead<'a>,
    ) -> Authorization<'a> {
        Box::pin(Authorizer::authorize(self, caller, head))
    }

    fn authorize_now(
        &self,
        caller: &ServiceAccountIdentity,
        head: RequestHead<'_>,
    ) -> Option<Decision> {
        Authorizer::authorize_now(self, caller, head)
    }

    fn check_needs(&self) -> Checking<'_> {
        Box::pin(Authorizer::check_needs(self))
    }
}

impl DynAuthorizer {
    /// Erases the type of `authorizer`. Returns a `DynAuthorizer` as it is, without a second layer.
    pub fn new(authorizer: impl Authorizer) -> Self {
        match (&authorizer as &dyn Any).downcast_ref::<Self>() {
            Some(erased) => erased.clone(),
            None => Self { authorizer: Arc::new(authorizer), warn_limit: Arc::default() },
        }
    }

    fn aborted(&self, Panicked: &Panicked) -> AuthorizeError {
        if let Some(suppressed) = self.warn_limit.admit("panic", Clock::system().monotonic()) {
            tracing::error!(
                suppressed,
                "the authorizer panicked; the panic hook has printed where"
            );
        }
        AuthorizeError::new(AuthorizeErrorKind::Aborted, "the authorizer panicked")
    }

    /// Decides without waiting, or returns `None`. A panic is an error.
    pub(crate) fn authorize_caught(
        &self,
        caller: &ServiceAccountIdentity,
        head: RequestHead<'_>,
    ) -> Option<Result<Decision, AuthorizeError>> {
        match call_caught(|| self.authorizer.authorize_now(caller, head)) {
            Ok(decision) => decision.map(Ok),
            Err(panicked) => Some(Err(self.aborted(&panicked))),
        }
    }
}

impl Authorizer for DynAuthorizer {
    async fn authorize(
        &self,
        caller: &ServiceAccountIdentity,
        head: RequestHead<'_>,
    ) -> Result<Decision, AuthorizeError> {
        let mut authorization = match call_caught(|| self.authorizer.authorize(caller, head)) {
            Ok(authorization) => authorization,
            Err(panicked) => return Err(self.aborted(&panicked)),
        };
        poll_fn(|cx| poll_caught(authorization.as_mut(), cx))
            .await
            .unwrap_or_else(|panicked| Err(self.aborted(&panicked)))
    }

    fn authorize_now(
        &self,
        caller: &ServiceAccountIdentity,
        head: RequestHead<'_>,
    ) -> Option<Decision> {
        // `authorize` reports the panic, if it is one.
        self.authorize_caught(caller, head)?.ok()
    }

    fn check_needs(&self) -> impl Future<Output = Vec<Need>> + Send {
        self.authorizer.check_needs()
    }
}

impl fmt::Debug for DynAuthorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DynAuthorizer")
    }
}
