//! The self-check: what the verifier, authorizers and a token source need.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::authenticator::Authenticator;
use crate::{
    audience::Audiences,
    authorizer::{Authorizer, DynAuthorizer},
    catch_panic::poll_caught,
    client::{Token, TokenErrorKind, TokenSource},
    clock::Clock,
    inspect::UnverifiedToken,
    readiness::{Need, Readiness},
    token::BearerToken,
    verdict::Verdict,
    verifier::Verifier,
};

const OWN_TOKEN: &str = "own token";

/// Checks what a service needs: that which its verifier needs, its authorizers, and the source of
/// its own token. See [`Authenticator::check`].
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_kube_auth::{
///     ApiServer, Authenticator, TokenReviewVerifier, authenticator::SelfCheck,
///     authorizer::SubjectAccessReviewAuthorizer, testing::Cluster,
/// };
///
/// let cluster = Cluster::start().await?;
/// let api = ApiServer::from(cluster.kube_client()?);
/// let auth =
///     Authenticator::builder(TokenReviewVerifier::new(api.clone())).audience("orders").build()?;
/// let authorizer = SubjectAccessReviewAuthorizer::new(api);
///
/// let readiness = SelfCheck::new(&auth).authorizer(authorizer).run().await;
/// assert!(readiness.all_met(), "{readiness}");
///
/// cluster.revoke(Cluster::VERIFIER);
/// let readiness = auth.check().await;
/// assert!(readiness.to_string().contains("system:auth-delegator"), "{readiness}");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SelfCheck {
    authenticator: Authenticator,
    authorizers: Vec<DynAuthorizer>,
    own_token: Option<Arc<CheckOwnToken>>,
    token_audience: Option<Arc<str>>,
}

type CheckOwnToken = dyn Fn(Authenticator, Option<Arc<str>>) -> Checking + Send + Sync;
type Checking = Pin<Box<dyn Future<Output = Need> + Send>>;

impl Authenticator {
    /// Checks what the verifier needs: a right, a reachable API server, an agreeing clock, loaded
    /// keys. Costs one call to the API server; it is not cached. [`SelfCheck`] also checks
    /// authorizers and this service's own token.
    pub async fn check(&self) -> Readiness {
        SelfCheck::new(self).run().await
    }
}

impl SelfCheck {
    /// Checks what the verifier of `authenticator` needs.
    #[must_use]
    pub fn new(authenticator: &Authenticator) -> Self {
        Self {
            authenticator: authenticator.clone(),
            authorizers: Vec::new(),
            own_token: None,
            token_audience: None,
        }
    }

    /// Also checks what `authorizer` needs.
    #[must_use]
    pub fn authorizer(mut self, authorizer: impl Authorizer) -> Self {
        self.authorizers.push(DynAuthorizer::new(authorizer));
        self
    }

    /// Also checks that `source` has a token, that the verifier accepts it, and that a tenth of its
    /// lifetime is left: a source that works replaces it earlier. None by default.
    #[must_use]
    pub fn token_source(mut self, source: impl TokenSource) -> Self {
        let source = Arc::new(source);
        self.own_token =
            Some(Arc::new(move |authenticator: Authenticator, audience| -> Checking {
                let source = Arc::clone(&source);
                Box::pin(
                    async move { own_token(&*source, &authenticator, audience.as_deref()).await },
                )
            }));
        self
    }

    /// Sets the audience that the token of the [source](Self::token_source) is for: the one that
    /// the called service expects. Defaults to the first one that the token names.
    #[must_use]
    pub fn token_audience(mut self, audience: impl Into<String>) -> Self {
        self.token_audience = Some(audience.into().into());
        self
    }

    /// Time limit of a check: longer than that of one call to the API server.
    pub(crate) const TIMEOUT: Duration = Duration::from_secs(15);

    /// Runs the check, for at most 15 s.
    pub async fn run(&self) -> Readiness {
        let mut checking = pin!(self.needs());
        let caught = poll_fn(|cx| poll_caught(checking.as_mut(), cx));
        let unknown = |detail: &str| vec![Need::unknown("self-check", detail, "see the log")];
        Readiness::new(match self.clock().timeout(Self::TIMEOUT, caught).await {
            Some(Ok(needs)) => needs,
            Some(Err(_)) => unknown("it panicked"),
            None => unknown("it did not end in time"),
        })
    }

    pub(crate) fn clock(&self) -> &Clock {
        self.authenticator.cache.clock()
    }

    async fn needs(&self) -> Vec<Need> {
        if let Err(error) = self.authenticator.cache.ensure_open() {
            return vec![Need::missing("authenticator", error.to_string(), "restart the service")];
        }
        let mut needs = self.authenticator.cache.loader().verifier.check_needs().await;
        for authorizer in &self.authorizers {
            needs.extend(authorizer.check_needs().await);
        }
        if let Some(own_token) = &self.own_token {
            needs.push(own_token(self.authenticator.clone(), self.token_audience.clone()).await);
        }
        // Two verifiers of one API server report the same clock.
        let mut unique: Vec<Need> = Vec::with_capacity(needs.len());
        for need in needs {
            if !unique.contains(&need) {
                unique.push(need);
            }
        }
        unique
    }
}

impl fmt::Debug for SelfCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SelfCheck").field("authorizers", &self.authorizers).finish_non_exhaustive()
    }
}

/// Errors are reported by their kind: a user's verifier or source could quote the token.
async fn own_token(
    source: &impl TokenSource,
    authenticator: &Authenticator,
    audience: Option<&str>,
) -> Need {
    let token = match source.token().await {
        Ok(token) => token,
        Err(error) => {
            let detail = format!("there is none: {}", error.kind().as_str());
            let remedy = "look at the projected volume; see the log";
            return if is_permanent(error.kind()) {
                Need::missing(OWN_TOKEN, detail, remedy)
            } else {
                Need::unknown(OWN_TOKEN, detail, remedy)
            };
        }
    };
    let claims = UnverifiedToken::decode(token.expose_secret()).ok();
    let named = claims.as_ref().map(UnverifiedToken::audiences).unwrap_or_default();
    let left = TimeLeft::of(&token, claims.as_ref(), authenticator.cache.clock().wall());
    let audience = audience.or(named.first().copied());
    let audiences = audience.and_then(|audience| Audiences::new([audience]).ok());
    let (Some(audiences), Ok(bearer)) = (audiences, BearerToken::parse(token.expose_secret()))
    else {
        let detail = format!("it names no audience, so it is not verified; {left}");
        return Need::degraded(OWN_TOKEN, detail, "use a projected token with an audience");
    };
    match authenticator.cache.loader().verifier.verify(bearer, &audiences).await {
        Ok(Verdict::Accept(_)) if left.is_little => Need::degraded(
            OWN_TOKEN,
            format!("accepted for {named:?}; {left}, less than a tenth of its lifetime"),
            "the kubelet replaces a token at 80 % of its lifetime: look at its log",
        ),
        Ok(Verdict::Accept(_)) => Need::met(OWN_TOKEN, format!("accepted for {named:?}; {left}")),
        Ok(Verdict::Reject(reason)) => Need::missing(
            OWN_TOKEN,
            format!("rejected for {audiences}: {reason}; it is for {named:?}; {left}"),
            "look at the projected volume: is it a token of this cluster, for this audience?",
        ),
        Err(error) => Need::unknown(
            OWN_TOKEN,
            format!("undecided: {}; {left}", error.kind().as_str()),
            "the other lines say why",
        ),
    }
}

/// Whether an operator must act. An outage of the API server ends by itself, also if a token expires
/// meanwhile because the kubelet cannot replace it.
fn is_permanent(kind: TokenErrorKind) -> bool {
    match kind {
        TokenErrorKind::Unreadable
        | TokenErrorKind::Malformed
        | TokenErrorKind::Unauthenticated
        | TokenErrorKind::Forbidden
        | TokenErrorKind::InvalidRequest
        | TokenErrorKind::UnknownServiceAccount => true,
        TokenErrorKind::Expired
        | TokenErrorKind::RateLimited
        | TokenErrorKind::Unavailable
        | TokenErrorKind::Timeout
        | TokenErrorKind::InvalidResponse
        | TokenErrorKind::Aborted => false,
    }
}

/// How long a token is still valid; `None` if it never expires.
struct TimeLeft {
    left: Option<Duration>,
    is_little: bool,
}

impl TimeLeft {
    /// Takes the source's word for the expiry, which may be earlier than the token's `exp`.
    fn of(token: &Token, claims: Option<&UnverifiedToken>, now: SystemTime) -> Self {
        let expiry = token.expires_at().or(claims.and_then(UnverifiedToken::expires_at));
        let left = expiry.map(|expiry| expiry.duration_since(now).unwrap_or_default());
        let lifetime = || {
            let issued = claims?.claims().get("iat")?.as_f64()?;
            let issued = UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(issued).ok()?)?;
            expiry?.duration_since(issued).ok()
        };
        let is_little = left.zip(lifetime()).is_some_and(|(left, all)| left < all / 10);
        Self { left, is_little }
    }
}

impl fmt::Display for TimeLeft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.left {
            Some(left) => write!(f, "expires in {} s", left.as_secs()),
            None => f.write_str("never expires"),
        }
    }
}
