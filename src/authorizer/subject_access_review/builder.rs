//! The options of the authorizer, all checked in `build()`.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    attributes::AccessAttributes,
    authorizer::{AttributesRule, SubjectAccessReviewAuthorizer},
    review::Reviewer,
};
#[cfg(feature = "watch")]
use crate::live_objects::LiveObjects;
use crate::{
    api_server::{ApiClient, ApiServer, BIND_AUTH_DELEGATOR, Purpose},
    authorizer::RequestHead,
    cache::{Capacities, Lifetimes, Limit, ReadThroughCache, VerdictCache},
    clock::Clock,
    identity::ServiceAccountIdentity,
    telemetry::Stage,
};

const PURPOSE: Purpose = Purpose {
    call: "SubjectAccessReview",
    when_forbidden: BIND_AUTH_DELEGATOR,
    stage: Some(Stage::Authorization),
};
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a review waits for a permit.
const MAX_WAIT: Duration = Duration::from_secs(1);
/// A review's own errors are more specific than the time limit around it.
const MARGIN: Duration = Duration::from_secs(1);
/// Upper bound for the TTLs.
const MAX_TTL: Duration = Duration::from_secs(3600);

impl SubjectAccessReviewAuthorizer {
    /// Returns an authorizer with the default options that asks `api_server` about path and method.
    #[must_use]
    pub fn new(api_server: impl Into<ApiServer>) -> Self {
        Self::builder(api_server).build_unchecked()
    }

    /// Starts a builder, for other attributes and options.
    pub fn builder(api_server: impl Into<ApiServer>) -> SubjectAccessReviewBuilder {
        SubjectAccessReviewBuilder::new(api_server.into())
    }
}

/// Builds a [`SubjectAccessReviewAuthorizer`]. Every option has a default.
///
/// ```
/// use std::time::Duration;
/// use tower_kube_auth::{
///     authorizer::{ResourceAttributes, SubjectAccessReviewAuthorizer},
///     testing::Cluster,
/// };
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cluster = Cluster::start().await?;
/// let writers = SubjectAccessReviewAuthorizer::builder(cluster.kube_client()?)
///     .attributes(ResourceAttributes::new("create", "orders").group("shop.example.org"))
///     .allowed_ttl(Duration::from_secs(30))
///     .build()?;
/// # let _ = writers;
/// # Ok(()) }
/// ```
#[must_use]
pub struct SubjectAccessReviewBuilder {
    api_client: ApiClient,
    rule: AttributesRule,
    lifetimes: Lifetimes,
    capacity: u64,
    max_in_flight: usize,
    #[cfg(feature = "watch")]
    live_objects: Option<LiveObjects>,
}

/// Why [`SubjectAccessReviewBuilder::build`] fails.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubjectAccessReviewBuildError {
    /// The named attribute is empty.
    EmptyAttribute(&'static str),
    /// The named option is too small.
    TooSmall {
        /// The option.
        option: &'static str,
        /// The smallest value.
        least: u64,
    },
    /// `max_in_flight` is implausibly large.
    TooManyInFlight,
    /// The named TTL exceeds an hour.
    TooLong(&'static str),
    /// The operating system has no random bytes for the cache's digest key.
    NoRandomness,
}

impl SubjectAccessReviewBuilder {
    fn new(api_server: ApiServer) -> Self {
        Self {
            api_client: ApiClient::new(api_server, DEFAULT_TIMEOUT, PURPOSE),
            rule: AttributesRule::Request,
            lifetimes: Lifetimes {
                accepted: Duration::from_secs(60),
                rejected: Duration::from_secs(10),
                stale: Duration::ZERO,
            },
            capacity: 10_000,
            max_in_flight: 64,
            #[cfg(feature = "watch")]
            live_objects: None,
        }
    }

    /// Asks about these attributes at each request, whatever its path. Defaults to the path and the
    /// method of the request.
    pub fn attributes(mut self, attributes: impl Into<AccessAttributes>) -> Self {
        self.rule = AttributesRule::Fixed(attributes.into());
        self
    }

    /// Asks about the attributes that `attributes` returns for a request; a request for which it
    /// returns `None` is denied. It is called up to twice for a request and must not block.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tower_kube_auth::{
    ///     authorizer::{ResourceAttributes, SubjectAccessReviewAuthorizer},
    ///     testing::Cluster,
    /// };
    ///
    /// let cluster = Cluster::start().await?;
    /// // `GET /namespaces/shop/orders` needs the right to list orders in the namespace.
    /// let by_namespace = SubjectAccessReviewAuthorizer::builder(cluster.kube_client()?)
    ///     .attributes_fn(|_caller, head| {
    ///         let mut segments = head.uri().path().split('/').skip(2);
    ///         let namespace = segments.next().filter(|namespace| !namespace.is_empty())?;
    ///         Some(ResourceAttributes::new("list", "orders").namespace(namespace).into())
    ///     })
    ///     .build()?;
    /// # let _ = by_namespace;
    /// # Ok(()) }
    /// ```
    pub fn attributes_fn<F>(mut self, attributes: F) -> Self
    where
        F: Fn(&ServiceAccountIdentity, RequestHead<'_>) -> Option<AccessAttributes>
            + Send
            + Sync
            + 'static,
    {
        self.rule = AttributesRule::Closure(Arc::new(attributes));
        self
    }

    /// Sets how long a decision to allow is cached, ± 10 %: for so long a removed binding goes
    /// unnoticed. Zero turns it off. Defaults to 60 s; at most an hour.
    pub fn allowed_ttl(mut self, ttl: Duration) -> Self {
        self.lifetimes.accepted = ttl;
        self
    }

    /// Sets how long a decision to deny is cached, ± 10 %: for so long a new binding goes unnoticed.
    /// Zero turns it off. Defaults to 10 s; at most an hour.
    pub fn denied_ttl(mut self, ttl: Duration) -> Self {
        self.lifetimes.rejected = ttl;
        self
    }

    /// Sets how many decisions to allow are cached, and how many to deny. The two never evict each
    /// other, and entries in use survive a flood of new ones. Defaults to 10 000.
    pub fn cache_capacity(mut self, decisions: u64) -> Self {
        self.capacity = decisions;
        self
    }

    /// Sets the limit on concurrent reviews. Defaults to 64, and must be at least 2. A quarter, at
    /// least one, is reserved for decisions that allowed before. Up to 16 times as many wait, for at
    /// most 1 s; then the answer is 503.
    ///
    /// One caller, by its uid, uses a quarter of the other permits and of their queue at most, at
    /// least one permit; and as many permits and queue places again for decisions that allowed
    /// before. Beyond that this caller alone is answered with 503: a caller without any right, or
    /// with many, cannot keep others from their decisions.
    pub fn max_in_flight(mut self, reviews: usize) -> Self {
        self.max_in_flight = reviews;
        self
    }

    /// Sets the time limit of a review with all its attempts. Defaults to 10 s, as in
    /// k8s.io/apiserver's webhook client. See [`ApiServer`] for the limit of each attempt.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.api_client.timeout = limit;
        self
    }

    /// Drops decisions to allow at once when `live_objects` sees that the caller's ServiceAccount,
    /// or the Pod, Secret or Node that its token is bound to, was deleted, and denies from then on.
    /// Off by default. See
    /// [`AuthenticatorBuilder::invalidated_by`](crate::authenticator::AuthenticatorBuilder::invalidated_by).
    #[cfg(feature = "watch")]
    pub fn invalidated_by(mut self, live_objects: &LiveObjects) -> Self {
        self.live_objects = Some(live_objects.clone());
        self
    }

    /// Sets the clock. Defaults to the system's; tests use a manual one.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.api_client.clock = clock;
        self
    }

    /// Checks all options and builds.
    ///
    /// # Errors
    ///
    /// [`SubjectAccessReviewBuildError`], which names the option, the problem and the remedy.
    pub fn build(self) -> Result<SubjectAccessReviewAuthorizer, SubjectAccessReviewBuildError> {
        self.check()?;
        let authorizer = self.build_unchecked();
        if authorizer.cache.is_none() {
            return Err(SubjectAccessReviewBuildError::NoRandomness);
        }
        Ok(authorizer)
    }

    /// Builds without checks; for the defaults, which need none.
    fn build_unchecked(self) -> SubjectAccessReviewAuthorizer {
        let (clock, timeout) = (self.api_client.clock.clone(), self.api_client.timeout);
        let capacities = Capacities { accepted: self.capacity, rejected: self.capacity };
        let verdicts = VerdictCache::new(capacities, self.lifetimes, clock.clone()).ok();
        #[cfg(feature = "watch")]
        let verdicts = verdicts.map(|verdicts| match &self.live_objects {
            Some(live_objects) => verdicts.revoked_by(live_objects),
            None => verdicts,
        });
        let cache = verdicts.map(|verdicts| {
            let limit = Limit::new(self.max_in_flight, MAX_WAIT, clock.clone());
            let reviewer = Reviewer { api_client: self.api_client };
            let timeout = timeout.saturating_add(MAX_WAIT).saturating_add(MARGIN);
            Arc::new(ReadThroughCache::new(verdicts, reviewer, limit, timeout, clock))
        });
        #[cfg(feature = "watch")]
        if let (Some(cache), Some(live_objects)) = (&cache, &self.live_objects) {
            cache.drop_deleted(live_objects);
        }
        SubjectAccessReviewAuthorizer { rule: self.rule, cache }
    }

    fn check(&self) -> Result<(), SubjectAccessReviewBuildError> {
        use SubjectAccessReviewBuildError::{EmptyAttribute, TooLong, TooManyInFlight, TooSmall};
        let named = match &self.rule {
            AttributesRule::Fixed(AccessAttributes::Resource(of)) => {
                vec![("verb", &of.verb), ("resource", &of.resource)]
            }
            AttributesRule::Fixed(AccessAttributes::NonResource(of)) => {
                vec![("verb", &of.verb), ("path", &of.path)]
            }
            AttributesRule::Request | AttributesRule::Closure(_) => Vec::new(),
        };
        if let Some((attribute, _)) = named.into_iter().find(|(_, value)| value.is_empty()) {
            return Err(EmptyAttribute(attribute));
        }
        if self.capacity == 0 {
            return Err(TooSmall { option: "cache_capacity", least: 1 });
        }
        if self.max_in_flight < 2 {
            return Err(TooSmall { option: "max_in_flight", least: 2 });
        }
        if self.max_in_flight > tokio::sync::Semaphore::MAX_PERMITS {
            return Err(TooManyInFlight);
        }
        if self.api_client.timeout.is_zero() {
            return Err(TooSmall { option: "timeout", least: 1 });
        }
        for (option, ttl) in
            [("allowed_ttl", self.lifetimes.accepted), ("denied_ttl", self.lifetimes.rejected)]
        {
            if ttl > MAX_TTL {
                return Err(TooLong(option));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for SubjectAccessReviewBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubjectAccessReviewBuilder")
            .field("lifetimes", &self.lifetimes)
            .field("capacity", &self.capacity)
            .field("max_in_flight", &self.max_in_flight)
            .field("timeout", &self.api_client.timeout)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for SubjectAccessReviewBuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyAttribute(attribute) => write!(
                f,
                "the attribute {attribute} is empty: the API server would find the review invalid, or \
                 deny everybody; name it"
            ),
            Self::TooSmall { option: "cache_capacity", least } => write!(
                f,
                "cache_capacity must be at least {least}: set the TTLs to zero to turn the cache off"
            ),
            Self::TooSmall { option: "timeout", .. } => {
                f.write_str("timeout is 0, so no review could end: set a positive value")
            }
            Self::TooSmall { option, least } => {
                write!(f, "{option} must be at least {least}: set a larger number")
            }
            Self::TooManyInFlight => {
                f.write_str("max_in_flight is implausibly large: set a smaller number")
            }
            Self::TooLong(option) => write!(
                f,
                "{option} exceeds {MAX_TTL:?}, for which a change of rights would go unnoticed: set a \
                 shorter time"
            ),
            Self::NoRandomness => {
                f.write_str("the operating system gave no random bytes for the cache's digest key")
            }
        }
    }
}

impl std::error::Error for SubjectAccessReviewBuildError {}
