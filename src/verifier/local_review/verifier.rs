//! The verifier that decides by signature and watch.

use std::{fmt, time::Duration};

use super::decision::{Inconclusive, decide};
use crate::{
    audience::Audiences,
    error::{VerifyError, VerifyErrorKind},
    live_objects::{LiveObjects, NamedObject},
    readiness::Need,
    telemetry,
    token::BearerToken,
    verdict::{Outcome, Verdict},
    verifier::{jwks::JwksVerifier, verifier::Verifier},
};

const WATCH: &str = "watch of token objects";
const NOT_CURRENT: &str = "the watch of the tokens' objects is not synced or gives no sign of life";

/// Decides as TokenReview does, without a call per token: the signature and the claims by a
/// [`JwksVerifier`], and whether the token's objects still exist by [`LiveObjects`].
///
/// kube-apiserver itself decides with keys and a watch. The rules are its own
/// (`pkg/serviceaccount/claims.go`):
///
/// | the token's ServiceAccount, and the Pod, Secret or Node that it is bound to | outcome |
/// |---|---|
/// | all exist with the UIDs that the token names | accepted, with the identity that TokenReview gives |
/// | one was seen and is deleted, also if another object has its name by now | rejected: [`Deleted`](crate::verdict::RejectReason::Deleted) |
/// | one has a deletion timestamp that is more than 60 s past | rejected: `Deleted` |
/// | one was never seen: it is newer than the watch, or its kind or namespace is not watched | [`Inconclusive`](VerifyErrorKind::Inconclusive) |
/// | any, while the watch is not synced or has given no sign of life for [`max_staleness`](Self::max_staleness) | [`Unavailable`](VerifyErrorKind::Unavailable) |
///
/// What the `JwksVerifier` rejects is rejected. Private claims that this version does not know, and
/// the legacy tokens of Secrets, are inconclusive: kube-apiserver compares the latter with the
/// Secret's data.
///
/// Have TokenReview decide the rest. A new Pod may call before the watch has seen it, so without
/// [`or_when_inconclusive`](crate::VerifierExt::or_when_inconclusive) some first calls are answered
/// with 503:
///
/// ```no_run
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_kube_auth::{
///     ApiServer, Authenticator, JwksVerifier, LiveObjects, TokenReviewVerifier, VerifierExt,
///     LocalReviewVerifier,
/// };
///
/// let api = ApiServer::try_default().await?;
/// let jwks = JwksVerifier::in_cluster(api.clone()).build()?;
/// let live_objects = LiveObjects::builder(api.clone()).build()?;
/// let review = TokenReviewVerifier::new(api).screened_by(jwks.clone());
/// let verifier = LocalReviewVerifier::new(jwks, live_objects.clone())
///     .or_when_inconclusive(review.clone())
///     .or_when_unavailable(review);
/// let auth = Authenticator::builder(verifier)
///     .audience("orders")
///     .invalidated_by(&live_objects)
///     .build()?;
/// # Ok(()) }
/// ```
///
/// The clock is that of the `JwksVerifier`.
#[derive(Clone)]
pub struct LocalReviewVerifier {
    jwks: JwksVerifier,
    live_objects: LiveObjects,
    max_staleness: Duration,
}

impl LocalReviewVerifier {
    /// Verifies tokens by the keys of `jwks` and the objects of `live_objects`.
    #[must_use]
    pub fn new(jwks: JwksVerifier, live_objects: LiveObjects) -> Self {
        Self { jwks, live_objects, max_staleness: Duration::from_secs(120) }
    }

    /// Sets for how long the watch may give no sign of life before this verifier is
    /// [`Unavailable`](VerifyErrorKind::Unavailable). Defaults to 2 min: an API server sends a
    /// bookmark about once a minute.
    ///
    /// It bounds how long a deletion can go unnoticed while the API server is unreachable: an
    /// acceptance is cached no longer than the watch would stay current without a sign of life.
    #[must_use]
    pub fn max_staleness(mut self, limit: Duration) -> Self {
        self.max_staleness = limit;
        self
    }

    /// Returns the outcome that follows from that of the check of signature and claims.
    fn review(&self, token: BearerToken<'_>, checked: Outcome) -> Result<Verdict, Undecided> {
        if let Ok(Verdict::Reject(reason)) = checked {
            return Ok(Verdict::Reject(reason));
        }
        // Before the objects: what a silent watch remembers may be out of date. Before errors too,
        // so that inconclusive tokens do not look like answers of a working verifier.
        let Some(current_for) = self.live_objects.remaining_currency(self.max_staleness) else {
            let error = VerifyError::new(VerifyErrorKind::Unavailable, NOT_CURRENT);
            return Err(Undecided::Failed(error));
        };
        let accepted = match checked.map_err(Undecided::Failed)? {
            Verdict::Accept(accepted) => accepted.cached_for(current_for),
            rejected @ Verdict::Reject(_) => return Ok(rejected),
        };
        let liveness_of = |object: &NamedObject<'_>| self.live_objects.liveness_of(object);
        decide(token, accepted, liveness_of, self.jwks.clock().wall())
            .map_err(Undecided::Inconclusive)
    }
}

/// Why a review has no verdict.
enum Undecided {
    /// The watch cannot tell about this token.
    Inconclusive(Inconclusive),
    /// The watch is not current, or the keys cannot tell.
    Failed(VerifyError),
}

impl Verifier for LocalReviewVerifier {
    async fn verify(
        &self,
        token: BearerToken<'_>,
        audiences: &Audiences,
    ) -> Result<Verdict, VerifyError> {
        let checked = self.jwks.verify(token, audiences).await;
        self.review(token, checked).map_err(|undecided| match undecided {
            Undecided::Inconclusive(inconclusive) => {
                telemetry::local_review_inconclusive(inconclusive.reason());
                VerifyError::new(VerifyErrorKind::Inconclusive, inconclusive.message())
            }
            Undecided::Failed(error) => error,
        })
    }

    /// Needs no I/O if the key is loaded and the watch knows the token's objects.
    fn verify_now(&self, token: BearerToken<'_>, audiences: &Audiences) -> Option<Verdict> {
        let checked = self.jwks.verify_now(token, audiences)?;
        self.review(token, Ok(checked)).ok()
    }

    fn warm_up(&self) {
        self.jwks.warm_up();
    }

    fn stop_background_tasks(&self) {
        self.jwks.stop_background_tasks();
    }

    fn supports_api_server_audience(&self) -> bool {
        self.jwks.supports_api_server_audience()
    }

    /// The keys, and a watch that is synced and gives signs of life.
    async fn check_needs(&self) -> Vec<Need> {
        let mut needs = self.jwks.check_needs().await;
        needs.push(if self.live_objects.is_current(self.max_staleness) {
            Need::met(WATCH, "synced")
        } else {
            Need::unknown(WATCH, NOT_CURRENT, "see the log: it names a missing right")
        });
        needs
    }
}

impl fmt::Debug for LocalReviewVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalReviewVerifier")
            .field("jwks", &self.jwks)
            .field("max_staleness", &self.max_staleness)
            .finish_non_exhaustive()
    }
}
