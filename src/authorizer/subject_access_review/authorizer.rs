//! The authorizer: attributes, then the cache, then the API server.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use super::{
    attributes::{AccessAttributes, RequestAttributes, may_be_normalized},
    metrics::SubjectAccessReviewMetrics,
    review::{Review, Reviewer, write_key},
};
use crate::{
    api_server::{BIND_AUTH_DELEGATOR, Right},
    authorizer::{
        AuthorizeError, AuthorizeErrorKind, Authorizer, Decision, DenyReason, RequestHead,
    },
    cache::{Invalidation, Lookup, ReadThroughCache},
    identity::ServiceAccountIdentity,
    readiness::Need,
    verdict::Verdict,
};

const RIGHT: Right = Right {
    name: "create subjectaccessreviews",
    group: "authorization.k8s.io",
    resource: "subjectaccessreviews",
    remedy: BIND_AUTH_DELEGATOR,
};

/// Asks the API server whether the caller may do what its request asks for
/// ([SubjectAccessReview]): the cluster's RBAC decides, and whatever other authorizers the API
/// server has.
///
/// By default it asks for the request's path and method, as the API server does about itself and
/// controller-runtime does about `/metrics`: a ClusterRole with `nonResourceURLs: ["/metrics"]` and
/// `verbs: ["get"]` allows `GET /metrics`.
/// A path that a router may normalize is denied without asking, so that `/open/../admin` is not
/// allowed by a right on `/open/*`: one with `.`, `..` or empty segments, `%2e`, `%2f`, `%5c` or a
/// backslash.
/// [`attributes`](super::SubjectAccessReviewBuilder::attributes) asks for the same attributes at each
/// request, [`attributes_fn`](super::SubjectAccessReviewBuilder::attributes_fn) for what a closure returns.
/// Username, uid, groups and extra of the caller are sent as TokenReview reported them.
///
/// `denied` overrides `allowed`; neither is a denial. Failures are
/// [`AuthorizeError`]s: they are answered with 503, never with 403, and not cached.
///
/// The service's own ServiceAccount needs the ClusterRole `system:auth-delegator`, by a
/// ClusterRoleBinding.
///
/// **Nested routers.** The path is that of the request where the layer stands. Within a nested axum
/// router it lacks the prefix of the nest, so that a right on `/metrics` would allow
/// `/internal/metrics`: put the layer around the outer router, or name the attributes.
///
/// **Cache.** A decision to allow is cached for 60 s and one to deny for 10 s, each ± 10 %, under a
/// keyed digest of what is sent; an entry has the same size however long the path is. Concurrent
/// requests for one decision make one call, which survives a caller that goes away. Decisions in use
/// are made anew after 80 % of their time in the background. The limit on concurrent reviews is
/// this authorizer's own, and each caller's share of it is limited. Clones share all of it.
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use axum::{
///     Router,
///     body::Body,
///     http::{Request, StatusCode},
///     routing::get,
/// };
/// use serde_json::json;
/// use tower::ServiceExt;
/// use tower_kube_auth::{
///     Authenticator, TokenReviewVerifier, authorizer::SubjectAccessReviewAuthorizer,
///     server::AuthorizeLayer, testing::Cluster,
/// };
///
/// let cluster = Cluster::start().await?;
/// let api = cluster.kube_client()?;
/// let auth =
///     Authenticator::builder(TokenReviewVerifier::new(api.clone())).audience("shop").build()?;
/// let app: Router = Router::new()
///     .route("/metrics", get(async || "up 1"))
///     .route_layer(AuthorizeLayer::new(SubjectAccessReviewAuthorizer::new(api)))
///     .layer(auth.layer());
///
/// cluster.create_service_account("monitoring", "prometheus");
/// let rule = json!({"nonResourceURLs": ["/metrics"], "verbs": ["get"]});
/// cluster.grant("system:serviceaccount:monitoring:prometheus", &rule);
/// cluster.create_service_account("shop", "checkout");
///
/// for (namespace, name, status) in [
///     ("monitoring", "prometheus", StatusCode::OK),
///     ("shop", "checkout", StatusCode::FORBIDDEN),
/// ] {
///     let token = cluster.token(namespace, name).audience("shop").issue()?;
///     let bearer = format!("Bearer {token}");
///     let request = Request::get("/metrics").header("authorization", bearer);
///     let response = app.clone().oneshot(request.body(Body::empty())?).await?;
///     assert_eq!(response.status(), status);
/// }
/// # Ok(()) }
/// ```
///
/// [SubjectAccessReview]: https://kubernetes.io/docs/reference/kubernetes-api/authorization-resources/subject-access-review-v1/
#[derive(Clone)]
pub struct SubjectAccessReviewAuthorizer {
    pub(super) rule: AttributesRule,
    /// `None` if the operating system gave no random bytes.
    pub(super) cache: Option<Arc<ReadThroughCache<Reviewer>>>,
}

/// Where the attributes of a request come from.
#[derive(Clone)]
pub(super) enum AttributesRule {
    Request,
    Fixed(AccessAttributes),
    Closure(Arc<AttributesFn>),
}

pub(super) type AttributesFn =
    dyn Fn(&ServiceAccountIdentity, RequestHead<'_>) -> Option<AccessAttributes> + Send + Sync;

impl SubjectAccessReviewAuthorizer {
    /// Drops the cached decisions that allow something to the ServiceAccount with this uid. They
    /// are made anew, also those that are being made now. Denials end by themselves, after 10 s by
    /// default.
    pub fn invalidate_service_account(&self, uid: &str) {
        self.invalidate(&Invalidation::ServiceAccount(uid.into()));
    }

    /// Drops the cached decisions that allow something to tokens bound to the Pod with this uid.
    pub fn invalidate_pod(&self, uid: &str) {
        self.invalidate(&Invalidation::Pod(uid.into()));
    }

    /// Drops all decisions, after a change of roles or bindings for instance.
    pub fn invalidate_all(&self) {
        self.invalidate(&Invalidation::All);
    }

    /// Asks the API server nothing from now on, waits for the reviews under way for at most
    /// `limit`, and aborts the rest. Call it after the server has ended its requests. Cached
    /// decisions are still served; any other request is undecided (503).
    pub async fn shutdown(&self, limit: Duration) {
        if let Some(cache) = &self.cache {
            cache.shut_down(limit).await;
        }
    }

    fn invalidate(&self, invalidation: &Invalidation) {
        if let Some(cache) = &self.cache {
            cache.invalidate(invalidation);
        }
    }

    /// Returns a snapshot of the counters and gauges.
    #[must_use]
    pub fn metrics(&self) -> SubjectAccessReviewMetrics {
        self.cache.as_ref().map(|cache| cache.metrics().into()).unwrap_or_default()
    }

    /// Whether it is unclear which path the request is for. Such a request is never asked about, so
    /// that no decision to allow it is in the cache.
    fn is_ambiguous(&self, head: RequestHead<'_>) -> bool {
        matches!(self.rule, AttributesRule::Request) && may_be_normalized(head.uri().path())
    }

    /// Returns the attributes to ask about; `None` if the closure knows none.
    fn attributes<'a>(
        &'a self,
        caller: &ServiceAccountIdentity,
        head: RequestHead<'a>,
    ) -> Option<RequestAttributes<'a>> {
        Some(match &self.rule {
            AttributesRule::Request => RequestAttributes::of_head(head),
            AttributesRule::Fixed(attributes) => {
                RequestAttributes::Given(Cow::Borrowed(attributes))
            }
            AttributesRule::Closure(attributes) => {
                RequestAttributes::Given(Cow::Owned(attributes(caller, head)?))
            }
        })
    }
}

impl Authorizer for SubjectAccessReviewAuthorizer {
    async fn authorize(
        &self,
        caller: &ServiceAccountIdentity,
        head: RequestHead<'_>,
    ) -> Result<Decision, AuthorizeError> {
        let Some(cache) = &self.cache else {
            let message = "the operating system gave no random bytes for the cache's digest key";
            return Err(AuthorizeError::new(AuthorizeErrorKind::Aborted, message));
        };
        if self.is_ambiguous(head) {
            return Ok(Decision::Deny(DenyReason::NoAttributes));
        }
        let Some(attributes) = self.attributes(caller, head) else {
            return Ok(Decision::Deny(DenyReason::NoAttributes));
        };
        let digest = cache.digest_of(|writer| write_key(caller, &attributes, writer));
        let review = || Review { caller: caller.clone(), attributes: attributes.into_owned() };
        let outcome = match cache.load(digest, review) {
            Lookup::Decided(outcome) => outcome,
            Lookup::Waiting(waiting) => waiting.await,
        };
        outcome.map(decision).map_err(AuthorizeError::of_review)
    }

    fn authorize_now(
        &self,
        caller: &ServiceAccountIdentity,
        head: RequestHead<'_>,
    ) -> Option<Decision> {
        let cache = self.cache.as_ref()?;
        let Some(attributes) = self.attributes(caller, head) else {
            return Some(Decision::Deny(DenyReason::NoAttributes));
        };
        let digest = cache.digest_of(|writer| write_key(caller, &attributes, writer));
        let review =
            || Some(Review { caller: caller.clone(), attributes: attributes.into_owned() });
        if cache.accepted(&digest, review).is_some() {
            return Some(Decision::Allow);
        }
        // After the cache, to keep the check off the path of a hit.
        if self.is_ambiguous(head) {
            return Some(Decision::Deny(DenyReason::NoAttributes));
        }
        cache.rejected(&digest).map(|_| Decision::Deny(DenyReason::AccessReview))
    }

    /// The right to create SubjectAccessReviews, and a clock that agrees with the API server's.
    async fn check_needs(&self) -> Vec<Need> {
        match &self.cache {
            Some(cache) => cache.loader().api_client.check_right(&RIGHT).await,
            None => Vec::new(),
        }
    }
}

fn decision(verdict: Verdict) -> Decision {
    match verdict {
        Verdict::Accept(_) => Decision::Allow,
        Verdict::Reject(_) => Decision::Deny(DenyReason::AccessReview),
    }
}

impl fmt::Debug for SubjectAccessReviewAuthorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("SubjectAccessReviewAuthorizer");
        if let AttributesRule::Fixed(attributes) = &self.rule {
            debug.field("attributes", attributes);
        }
        debug.finish_non_exhaustive()
    }
}
