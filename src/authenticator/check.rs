//! The self-check: what the verifier, authorizers and a token source need.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use super::authenticator::Authenticator;
use crate::{
    audience::Audiences,
    authorizer::{Authorizer, DynAuthorizer},
    catch_panic::poll_caught,
    client::TokenSource,
    clock::Clock,
    inspect::UnverifiedToken,
    readiness::{Need, Readiness},
    token::BearerToken,
    verdict::Verdict,
    verifier::Verifier,
};

/// Time limit of a check: longer than that of one call to the API server.
const TIMEOUT: Duration = Duration::from_secs(15);
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
}

type CheckOwnToken = dyn Fn(Authenticator) -> Checking + Send + Sync;
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
        Self { authenticator: authenticator.clone(), authorizers: Vec::new(), own_token: None }
    }

    /// Also checks what `authorizer` needs.
    #[must_use]
    pub fn authorizer(mut self, authorizer: impl Authorizer) -> Self {
        self.authorizers.push(DynAuthorizer::new(authorizer));
        self
    }

    /// Also checks that `source` has a token, and that the verifier accepts it for the first
    /// audience that it names. None by default.
    #[must_use]
    pub fn token_source(mut self, source: impl TokenSource) -> Self {
        let source = Arc::new(source);
        self.own_token = Some(Arc::new(move |authenticator: Authenticator| -> Checking {
            let source = Arc::clone(&source);
            Box::pin(async move { own_token(&*source, &authenticator).await })
        }));
        self
    }

    /// Runs the check, for at most 15 s.
    pub async fn run(&self) -> Readiness {
        let mut checking = pin!(self.needs());
        let caught = poll_fn(|cx| poll_caught(checking.as_mut(), cx));
        let unknown = |detail: &str| vec![Need::unknown("self-check", detail, "see the log")];
        Readiness::new(match self.clock().timeout(TIMEOUT, caught).await {
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
            needs.push(own_token(self.authenticator.clone()).await);
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
async fn own_token(source: &impl TokenSource, authenticator: &Authenticator) -> Need {
    let token = match source.token().await {
        Ok(token) => token,
        Err(error) => {
            let detail = format!("there is none: {:?}", error.kind());
            return Need::missing(OWN_TOKEN, detail, "look at the projected volume; see the log");
        }
    };
    let now = authenticator.cache.clock().wall();
    let expiry = match token.expires_at() {
        Some(expiry) => {
            format!("expires in {} s", expiry.duration_since(now).unwrap_or_default().as_secs())
        }
        None => "never expires".to_owned(),
    };
    let claims = UnverifiedToken::decode(token.expose_secret()).ok();
    let audience = claims.as_ref().and_then(|claims| claims.audiences().first().copied());
    let audiences = audience.and_then(|audience| Audiences::new([audience]).ok());
    let (Some(audiences), Ok(bearer)) = (audiences, BearerToken::parse(token.expose_secret()))
    else {
        let detail = format!("it names no audience, so it is not verified; {expiry}");
        return Need::degraded(OWN_TOKEN, detail, "use a projected token with an audience");
    };
    match authenticator.cache.loader().verifier.verify(bearer, &audiences).await {
        Ok(Verdict::Accept(_)) => Need::met(OWN_TOKEN, format!("accepted; {expiry}")),
        Ok(Verdict::Reject(reason)) => Need::missing(
            OWN_TOKEN,
            format!("rejected: {reason}; {expiry}"),
            "look at the projected volume: is it a token of this cluster?",
        ),
        Err(error) => Need::unknown(
            OWN_TOKEN,
            format!("undecided: {}; {expiry}", error.kind().as_str()),
            "the other lines say why",
        ),
    }
}
