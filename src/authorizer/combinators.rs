//! Two authorizers as one.

use super::{
    authorizer::Authorizer, decision::Decision, error::AuthorizeError, request_head::RequestHead,
};
use crate::{identity::ServiceAccountIdentity, readiness::Need};

/// Returns an authorizer that allows what `first` *and* `second` allow.
///
/// A denial by either is a denial, even if the other fails.
///
/// ```
/// use tower_kube_auth::authorizer::{AllowList, all_of, authorize_fn, Decision, DenyReason};
///
/// let reading = authorize_fn(|_, head| match head.method().is_safe() {
///     true => Decision::Allow,
///     false => Decision::Deny(DenyReason::Custom("read-only")),
/// });
/// let readers = all_of(AllowList::new(["shop/*"])?, reading);
/// # let _ = readers;
/// # Ok::<(), tower_kube_auth::authorizer::AllowListBuildError>(())
/// ```
pub fn all_of<A: Authorizer, B: Authorizer>(first: A, second: B) -> AllOf<A, B> {
    AllOf(first, second)
}

/// Returns an authorizer that allows what `first` *or* `second` allows.
///
/// `second` is asked only if `first` does not allow. If one denies and the other fails, there is no
/// decision.
pub fn any_of<A: Authorizer, B: Authorizer>(first: A, second: B) -> AnyOf<A, B> {
    AnyOf(first, second)
}

/// Allows what both authorizers allow; made by [`all_of`].
#[derive(Clone, Copy, Debug)]
pub struct AllOf<A, B>(A, B);

/// Allows what one of the authorizers allows; made by [`any_of`].
#[derive(Clone, Copy, Debug)]
pub struct AnyOf<A, B>(A, B);

impl<A: Authorizer, B: Authorizer> Authorizer for AllOf<A, B> {
    async fn authorize(
        &self,
        caller: &ServiceAccountIdentity,
        head: RequestHead<'_>,
    ) -> Result<Decision, AuthorizeError> {
        let first = self.0.authorize(caller, head).await;
        if let Ok(Decision::Deny(_)) = first {
            return first;
        }
        match self.1.authorize(caller, head).await? {
            Decision::Allow => first,
            denial => Ok(denial),
        }
    }

    fn authorize_now(
        &self,
        caller: &ServiceAccountIdentity,
        head: RequestHead<'_>,
    ) -> Option<Decision> {
        match self.0.authorize_now(caller, head)? {
            Decision::Allow => self.1.authorize_now(caller, head),
            denial => Some(denial),
        }
    }

    async fn check_needs(&self) -> Vec<Need> {
        let mut needs = self.0.check_needs().await;
        needs.extend(self.1.check_needs().await);
        needs
    }
}

impl<A: Authorizer, B: Authorizer> Authorizer for AnyOf<A, B> {
    async fn authorize(
        &self,
        caller: &ServiceAccountIdentity,
        head: RequestHead<'_>,
    ) -> Result<Decision, AuthorizeError> {
        let first = self.0.authorize(caller, head).await;
        if let Ok(Decision::Allow) = first {
            return first;
        }
        match self.1.authorize(caller, head).await? {
            Decision::Allow => Ok(Decision::Allow),
            Decision::Deny(_) => first,
        }
    }

    fn authorize_now(
        &self,
        caller: &ServiceAccountIdentity,
        head: RequestHead<'_>,
    ) -> Option<Decision> {
        match self.0.authorize_now(caller, head)? {
            Decision::Allow => Some(Decision::Allow),
            denial => match self.1.authorize_now(caller, head)? {
                Decision::Allow => Some(Decision::Allow),
                Decision::Deny(_) => Some(denial),
            },
        }
    }

    async fn check_needs(&self) -> Vec<Need> {
        let mut needs = self.0.check_needs().await;
        needs.extend(self.1.check_needs().await);
        needs
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::{
        authorizer::{AuthorizeErrorKind, DenyReason},
        testing::IdentityBuilder,
    };

    const DENY: Decision = Decision::Deny(DenyReason::Custom("denied"));

    /// Answers asynchronously; `None` is an error.
    struct Later(Option<Decision>);

    impl Authorizer for Later {
        async fn authorize(
            &self,
            _: &ServiceAccountIdentity,
            _: RequestHead<'_>,
        ) -> Result<Decision, AuthorizeError> {
            self.0.ok_or_else(|| AuthorizeError::new(AuthorizeErrorKind::Unavailable, "down"))
        }
    }

    struct Now(Decision);

    impl Authorizer for Now {
        async fn authorize(
            &self,
            _: &ServiceAccountIdentity,
            _: RequestHead<'_>,
        ) -> Result<Decision, AuthorizeError> {
            Ok(self.0)
        }

        fn authorize_now(
            &self,
            _: &ServiceAccountIdentity,
            _: RequestHead<'_>,
        ) -> Option<Decision> {
            Some(self.0)
        }
    }

    async fn later(authorizer: impl Authorizer) -> Option<Decision> {
        let caller = IdentityBuilder::new("shop", "checkout").build();
        let request = Request::new(());
        authorizer.authorize(&caller, RequestHead::from(&request)).await.ok()
    }

    fn now(authorizer: impl Authorizer) -> Option<Decision> {
        let caller = IdentityBuilder::new("shop", "checkout").build();
        authorizer.authorize_now(&caller, RequestHead::from(&Request::new(())))
    }

    const ALLOW: Option<Decision> = Some(Decision::Allow);
    const DENIED: Option<Decision> = Some(DENY);

    #[tokio::test]
    async fn both_must_allow_and_a_denial_wins_over_a_failure() {
        for (first, second, expected) in [
            (ALLOW, ALLOW, ALLOW),
            (ALLOW, DENIED, DENIED),
            (DENIED, ALLOW, DENIED),
            (DENIED, None, DENIED),
            (None, DENIED, DENIED),
            (ALLOW, None, None),
            (None, ALLOW, None),
            (None, None, None),
        ] {
            assert_eq!(
                later(all_of(Later(first), Later(second))).await,
                expected,
                "{first:?} {second:?}"
            );
        }
    }

    #[tokio::test]
    async fn one_must_allow_and_a_failure_is_no_denial() {
        for (first, second, expected) in [
            (ALLOW, ALLOW, ALLOW),
            (ALLOW, DENIED, ALLOW),
            (DENIED, ALLOW, ALLOW),
            (DENIED, DENIED, DENIED),
            (None, ALLOW, ALLOW),
            (ALLOW, None, ALLOW),
            (DENIED, None, None),
            (None, DENIED, None),
            (None, None, None),
        ] {
            assert_eq!(
                later(any_of(Later(first), Later(second))).await,
                expected,
                "{first:?} {second:?}"
            );
        }
    }

    #[test]
    fn synchronous_decisions_agree_with_asynchronous_ones() {
        let (allow, deny) = (Decision::Allow, DENY);
        assert_eq!(now(all_of(Now(allow), Now(allow))), ALLOW);
        assert_eq!(now(all_of(Now(allow), Now(deny))), DENIED);
        assert_eq!(now(all_of(Now(deny), Later(ALLOW))), DENIED);
        assert_eq!(now(all_of(Now(allow), Later(DENIED))), None);
        assert_eq!(now(all_of(Later(ALLOW), Now(deny))), None, "the first one must be asked");
        assert_eq!(now(any_of(Now(allow), Later(DENIED))), ALLOW);
        assert_eq!(now(any_of(Now(deny), Now(allow))), ALLOW);
        assert_eq!(now(any_of(Now(deny), Now(deny))), DENIED);
        assert_eq!(now(any_of(Now(deny), Later(ALLOW))), None);
    }
}
