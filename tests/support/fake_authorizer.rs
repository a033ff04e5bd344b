//! An authorizer whose decision a test sets.

use std::time::Duration;

use tower_kube_auth::{
    ServiceAccountIdentity,
    authorizer::{
        AuthorizeError, AuthorizeErrorKind, Authorizer, Decision, DenyReason, RequestHead,
    },
};

/// Decides after one suspension, so never synchronously. A failure asks for a pause of 7 s.
pub struct FakeAuthorizer(pub Result<Decision, AuthorizeErrorKind>);

impl Authorizer for FakeAuthorizer {
    async fn authorize(
        &self,
        _: &ServiceAccountIdentity,
        _: RequestHead<'_>,
    ) -> Result<Decision, AuthorizeError> {
        tokio::task::yield_now().await;
        self.0.map_err(|kind| {
            AuthorizeError::new(kind, "no decision").with_retry_after(Duration::from_secs(7))
        })
    }
}

pub fn denied() -> Decision {
    Decision::Deny(DenyReason::Custom("not today"))
}
