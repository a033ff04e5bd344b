//! The options of an [`Authenticator`], checked all at once in `build()`.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    Authenticator, Shared, backend::Backend, limit::Limit, precheck::Precheck, tasks::Tasks,
};
use crate::{
    audience::{Audiences, InvalidAudiences},
    cache::{Capacities, Flights, Lifetimes, VerdictCache},
    clock::Clock,
    token::BearerToken,
    verifier::SharedVerifier,
};

/// Beyond this a revoked token would be served for longer than a projected token lives by default.
const LONGEST_TTL: Duration = Duration::from_secs(3600);
/// No outage that nobody looks at lasts longer.
const LONGEST_GRACE: Duration = Duration::from_secs(24 * 3600);
/// Where the whole `Authorization` header of HTTP servers ends, generously.
const LONGEST_TOKEN: usize = 1024 * 1024;

/// Builds an [`Authenticator`]. Every option but the audience has a default.
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use tower_kube_auth::{Authenticator, TokenReviewVerifier, testing::Cluster};
///
/// let client = Cluster::start().await?.kube_client()?;
/// let auth = Authenticator::builder(TokenReviewVerifier::new(client))
///     .audience("orders")
///     .cache_ttl(Duration::from_secs(30))
///     .build()?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "call build() to get an Authenticator"]
pub struct AuthenticatorBuilder {
    verifier: SharedVerifier,
    audiences: Vec<String>,
    any_audience: bool,
    issuers: Vec<String>,
    lifetimes: Lifetimes,
    capacities: Capacities,
    max_in_flight: usize,
    max_wait: Duration,
    verification_timeout: Duration,
    max_token_length: usize,
    realm: String,
    clock: Clock,
}

impl AuthenticatorBuilder {
    pub(super) fn new(verifier: SharedVerifier) -> Self {
        Self {
            verifier,
            audiences: Vec::new(),
            any_audience: false,
            issuers: Vec::new(),
            lifetimes: Lifetimes {
                accepted: Duration::from_secs(60),
                rejected: Duration::from_secs(10),
                stale: Duration::ZERO,
            },
            capacities: Capacities { accepted: 10_000, rejected: 1_000 },
            max_in_flight: 64,
            max_wait: Duration::from_secs(1),
            verification_timeout: Duration::from_secs(15),
            max_token_length: BearerToken::DEFAULT_MAX_LENGTH,
            realm: "kubernetes".into(),
            clock: Clock::system(),
        }
    }

    /// Adds an audience that this service answers to. Required at least once; a token must name at least one of them
    /// ([RFC 7519 §4.1.3](https://www.rfc-editor.org/rfc/rfc7519#section-4.1.3)).
    ///
    /// Choose a name of this service's own, and have callers request their token for it. The API server's audience is a
    /// bad choice: such a token is good for the Kubernetes API too, and this service could misuse it.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// Accepts tokens for *whatever* audience: see [`Audiences::dangerous_any`]. Off by default.
    pub fn dangerous_accept_any_audience(mut self) -> Self {
        self.any_audience = true;
        self
    }

    /// Adds an issuer whose tokens are looked at. Others are refused before any verification, by their unverified `iss`,
    /// which saves a TokenReview for each. Defaults to none: the verifier alone decides.
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuers.push(issuer.into());
        self
    }

    /// Sets how long an accepted token is served from the cache, ± 10 %, but never past its `exp`. Zero turns the cache off.
    ///
    /// Defaults to 60 s, as controller-runtime does. This is how long a revocation goes unseen, together with the API
    /// server's own 10 s. A token that is in use past 80 % of its time is verified anew in the background, so that regular
    /// callers never wait.
    pub fn cache_ttl(mut self, ttl: Duration) -> Self {
        self.lifetimes.accepted = ttl;
        self
    }

    /// Keeps serving an accepted token for so long after its time is over, while it cannot be verified anew because the verifier is
    /// in trouble ([`VerifyError`]); never past the token's `exp`. Off by default; at most 24 h.
    ///
    /// It trades revocation for availability: during an outage of the API server, a ServiceAccount or Pod that is deleted goes unseen
    /// for that much longer. A verification goes on being tried, once a second for each token in use, and its answer counts
    /// at once. The idea, and the name, are those of HTTP caches (`stale-if-error`,
    /// [RFC 5861 §4](https://www.rfc-editor.org/rfc/rfc5861#section-4)).
    ///
    /// [`VerifyError`]: crate::error::VerifyError
    pub fn serve_stale(mut self, grace: Duration) -> Self {
        self.lifetimes.stale = grace;
        self
    }

    /// Sets how long a refusal is served from the cache, ± 10 %. Zero turns that off.
    ///
    /// Defaults to 10 s: long enough to shield the API server from a caller that tries again and again, short enough that
    /// a token which becomes good (its ServiceAccount has just been made) is not refused for long.
    pub fn reject_ttl(mut self, ttl: Duration) -> Self {
        self.lifetimes.rejected = ttl;
        self
    }

    /// Sets how many accepted tokens are kept. Defaults to 10 000, at up to 1 KiB each; a caller has one or two.
    pub fn cache_capacity(mut self, entries: u64) -> Self {
        self.capacities.accepted = entries;
        self
    }

    /// Sets how many refusals are kept, apart from the accepted tokens, which they can therefore never evict. Defaults to
    /// 1 000.
    pub fn reject_capacity(mut self, entries: u64) -> Self {
        self.capacities.rejected = entries;
        self
    }

    /// Sets how many verifications may be under way at once. Defaults to 64. What is served from the cache does not count. A quarter
    /// is kept for tokens that were accepted before and must be verified anew, so that a flood of strangers does not end those who
    /// are known.
    pub fn max_in_flight(mut self, verifications: usize) -> Self {
        self.max_in_flight = verifications;
        self
    }

    /// Sets how long a verification waits for its turn when [`max_in_flight`](Self::max_in_flight) are under way; then the
    /// answer is 503. Defaults to 1 s. At most sixteen times `max_in_flight` wait; one more is answered at once.
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = wait;
        self
    }

    /// Sets the time limit for one verification, with its wait for a turn; then the answer is 503.
    ///
    /// Defaults to 15 s: a little above the verifiers' own limits, whose errors say more.
    pub fn verification_timeout(mut self, limit: Duration) -> Self {
        self.verification_timeout = limit;
        self
    }

    /// Sets the length of the longest token that is looked at, in bytes. Defaults to 16 KiB; a ServiceAccount token has
    /// about 1 kB.
    pub fn max_token_length(mut self, bytes: usize) -> Self {
        self.max_token_length = bytes;
        self
    }

    /// Sets the `realm` of the `WWW-Authenticate` challenge
    /// ([RFC 6750 §3](https://www.rfc-editor.org/rfc/rfc6750#section-3)). Defaults to `kubernetes`.
    pub fn realm(mut self, realm: impl Into<String>) -> Self {
        self.realm = realm.into();
        self
    }

    /// Sets the clock. Defaults to the system's; tests give a manual one.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Checks all options and builds.
    ///
    /// # Errors
    ///
    /// [`AuthenticatorBuildError`], which names the option, what is wrong with it and what to do.
    pub fn build(self) -> Result<Authenticator, AuthenticatorBuildError> {
        let audiences = self.checked_audiences()?;
        self.check_numbers()?;
        if self.realm.is_empty() || !self.realm.bytes().all(is_quotable) {
            return Err(AuthenticatorBuildError::Realm(self.realm));
        }
        if self.issuers.iter().any(String::is_empty) {
            return Err(AuthenticatorBuildError::EmptyIssuer);
        }
        let cache = VerdictCache::new(self.capacities, self.lifetimes, self.clock.clone())
            .map_err(|_| AuthenticatorBuildError::NoRandomness)?;
        let backend = Backend {
            verifier: self.verifier,
            audiences: audiences.clone(),
            limit: Limit::new(self.max_in_flight, self.max_wait, self.clock.clone()),
            timeout: self.verification_timeout,
            counters: Default::default(),
            clock: self.clock,
        };
        let shared = Shared {
            cache,
            flights: Flights::new(),
            precheck: Precheck::new(audiences, self.issuers),
            backend: Arc::new(backend),
            tasks: Tasks::default(),
            max_token_length: self.max_token_length,
            realm: self.realm.into(),
        };
        Ok(Authenticator { shared: Arc::new(shared) })
    }

    fn checked_audiences(&self) -> Result<Audiences, AuthenticatorBuildError> {
        if !self.any_audience {
            return Audiences::new(&self.audiences).map_err(AuthenticatorBuildError::Audiences);
        }
        if self.audiences.is_empty() {
            Ok(Audiences::dangerous_any())
        } else {
            Err(AuthenticatorBuildError::AnyAndSomeAudiences)
        }
    }

    fn check_numbers(&self) -> Result<(), AuthenticatorBuildError> {
        let zero = |option, is_zero: bool| {
            if is_zero { Err(AuthenticatorBuildError::Zero(option)) } else { Ok(()) }
        };
        let too_long = |option, ttl, limit| {
            if ttl > limit {
                Err(AuthenticatorBuildError::TooLong { option, ttl, limit })
            } else {
                Ok(())
            }
        };
        zero("cache_capacity", self.capacities.accepted == 0)?;
        zero("reject_capacity", self.capacities.rejected == 0)?;
        zero("max_in_flight", self.max_in_flight == 0)?;
        zero("verification_timeout", self.verification_timeout.is_zero())?;
        zero("max_token_length", self.max_token_length == 0)?;
        too_long("cache_ttl", self.lifetimes.accepted, LONGEST_TTL)?;
        too_long("reject_ttl", self.lifetimes.rejected, LONGEST_TTL)?;
        too_long("serve_stale", self.lifetimes.stale, LONGEST_GRACE)?;
        if self.lifetimes.accepted.is_zero() && !self.lifetimes.stale.is_zero() {
            return Err(AuthenticatorBuildError::StaleWithoutCache);
        }
        if self.max_in_flight > tokio::sync::Semaphore::MAX_PERMITS {
            return Err(AuthenticatorBuildError::TooLarge("max_in_flight"));
        }
        if self.max_token_length > LONGEST_TOKEN {
            return Err(AuthenticatorBuildError::TooLarge("max_token_length"));
        }
        if self.max_wait >= self.verification_timeout {
            return Err(AuthenticatorBuildError::WaitBeyondTimeout);
        }
        Ok(())
    }
}

/// RFC 9110 §5.6.4 `qdtext`, without what would need an escape.
fn is_quotable(byte: u8) -> bool {
    (byte == b' ' || byte.is_ascii_graphic()) && byte != b'"' && byte != b'\\'
}

/// Why an [`AuthenticatorBuilder`] does not build.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthenticatorBuildError {
    /// The audiences are missing or unusable.
    Audiences(InvalidAudiences),
    /// Audiences are given, and `dangerous_accept_any_audience` too.
    AnyAndSomeAudiences,
    /// An issuer is the empty string.
    EmptyIssuer,
    /// The named option is zero.
    Zero(&'static str),
    /// The named option is beyond any sense.
    TooLarge(&'static str),
    /// The named time is longer than its limit.
    TooLong {
        /// The option.
        option: &'static str,
        /// Its value.
        ttl: Duration,
        /// The longest value that it may have.
        limit: Duration,
    },
    /// `serve_stale` is given, but `cache_ttl` is zero.
    StaleWithoutCache,
    /// `max_wait` is not below `verification_timeout`.
    WaitBeyondTimeout,
    /// The realm cannot stand in a quoted string.
    Realm(String),
    /// The operating system has no random bytes for the key of the cache's digests.
    NoRandomness,
}

impl fmt::Display for AuthenticatorBuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Audiences(invalid) => invalid.fmt(f),
            Self::AnyAndSomeAudiences => f.write_str(
                "audience() and dangerous_accept_any_audience() contradict each other: \
                 drop the latter to accept the named audiences only",
            ),
            Self::EmptyIssuer => f.write_str("an issuer is the empty string: is an environment variable unset?"),
            Self::Zero(option @ ("cache_capacity" | "reject_capacity")) => write!(
                f,
                "{option} is 0: give a positive number, or set the matching TTL to zero to turn that cache off"
            ),
            Self::Zero(option) => {
                write!(f, "{option} is 0, so that no token could ever be verified: give a positive value")
            }
            Self::TooLarge(option) => write!(f, "{option} is larger than can be meant: is it in the wrong unit?"),
            Self::TooLong { option, ttl, limit } => {
                write!(f, "{option} is {ttl:?}: for that long a revoked token could be served; the limit is {limit:?}")
            }
            Self::StaleWithoutCache => f.write_str(
                "serve_stale() needs a cache, and cache_ttl is zero: give a positive cache_ttl, or drop serve_stale()",
            ),
            Self::WaitBeyondTimeout => {
                f.write_str("max_wait must be shorter than verification_timeout, which would end it first")
            }
            Self::Realm(realm) => write!(
                f,
                "the realm {realm:?} cannot stand in a WWW-Authenticate header: \
                 use visible ASCII and spaces without '\"' and '\\'"
            ),
            Self::NoRandomness => f.write_str("the operating system gave no random bytes for the cache's digest key"),
        }
    }
}

impl std::error::Error for AuthenticatorBuildError {}
