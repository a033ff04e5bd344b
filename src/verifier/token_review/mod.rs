//! Verification by the API server: the TokenReview API.

mod redact;
mod status_error;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use kube::Client;

use crate::{
    api_server::{ApiServer, Purpose},
    api_types::{TokenReviewRequest, TokenReviewResponse, TokenReviewStatus},
    audience::Audiences,
    clock::Clock,
    error::{VerifyError, VerifyErrorKind},
    inspect::UnverifiedToken,
    json::Object,
    token::BearerToken,
    verdict::{Acceptance, RejectReason, Verdict},
    verifier::Verifier,
};

const PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
const PURPOSE: Purpose = Purpose {
    call: "TokenReview",
    when_forbidden: "bind the ClusterRole `system:auth-delegator` to this service's own ServiceAccount: \
                     kubectl create clusterrolebinding NAME --clusterrole=system:auth-delegator \
                     --serviceaccount=NAMESPACE:NAME",
};

/// Asks the API server about each token ([TokenReview]): sees deleted ServiceAccounts, Pods and Secrets at once, at the price
/// of a call.
///
/// The service's own ServiceAccount needs the ClusterRole `system:auth-delegator`, by a ClusterRoleBinding.
///
/// A token is accepted only if the API server authenticates it *and* names one of the requested audiences *and* the user
/// is strictly a ServiceAccount.
///
/// Calls that fail with 429, 5xx or a broken connection are made again, up to five times with back-off (as
/// k8s.io/apiserver's own webhook client does), within one time limit. `kube::Client` has a retry of its own by default, which
/// multiplies the calls; `Config::default_retry = false` leaves the matter to this verifier.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_kube_auth::{Authenticator, TokenReviewVerifier};
///
/// let client = kube::Client::try_default().await?;
/// let auth = Authenticator::builder(TokenReviewVerifier::new(client)).audience("my-audience").build()?;
/// # Ok(()) }
/// ```
///
/// [TokenReview]: https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-review-v1/
#[derive(Clone, Debug)]
pub struct TokenReviewVerifier {
    api_server: ApiServer,
}

impl TokenReviewVerifier {
    /// Verifies with the API server of `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { api_server: ApiServer::new(client, DEFAULT_TIMEOUT, PURPOSE) }
    }

    /// Sets the time limit for a review with all its attempts. Defaults to 10 s, as k8s.io/apiserver's webhook client does.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.api_server.timeout = limit;
        self
    }

    /// Sets the clock of back-off and time limit. Defaults to the system's.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.api_server.clock = clock;
        self
    }
}

impl Verifier for TokenReviewVerifier {
    async fn verify(
        &self,
        token: BearerToken<'_>,
        audiences: &Audiences,
    ) -> Result<Verdict, VerifyError> {
        let unverified = UnverifiedToken::decode(token.expose_secret()).ok();
        let wanted = match audiences.required() {
            Some(wanted) => wanted.to_vec(),
            // TokenReview has no "whatever audience": ask for those that the token names.
            None => unverified.iter().flat_map(UnverifiedToken::audiences).map(Arc::from).collect(),
        };
        let review = serde_json::to_vec(&TokenReviewRequest::new(token.expose_secret(), &wanted))
            .map_err(|error| {
            VerifyError::new(VerifyErrorKind::Aborted, "TokenReview: not serialised")
                .with_source(error)
        })?;
        let answer = self
            .api_server
            .post(PATH, review.into())
            .await
            .map_err(|error| redact::without(token, error.into()))?;
        // The error of serde_json names a line and a column, never the content.
        let Object(review): Object<TokenReviewResponse> =
            serde_json::from_slice(&answer).map_err(|error| {
                let message =
                    "TokenReview: the API server's answer is not a TokenReview with a status";
                VerifyError::new(VerifyErrorKind::InvalidResponse, message).with_source(error)
            })?;
        let Object(status) = review.status;
        decide(token, status, audiences, unverified.as_ref())
    }
}

/// The decision that the status of a review leads to; none, where the API server has come to none either.
///
/// The token's own claims are consulted only for what TokenReview does not say (issuer and expiry), and only after the API
/// server has authenticated these very bytes.
fn decide(
    token: BearerToken<'_>,
    status: TokenReviewStatus,
    audiences: &Audiences,
    claims: Option<&UnverifiedToken>,
) -> Result<Verdict, VerifyError> {
    if !status.authenticated {
        let error = redact::printable(token, &status.error);
        if status_error::is_the_api_servers(&status.error) {
            let message = format!(
                "TokenReview: the API server could not look the token's ServiceAccount up: {error}"
            );
            return Err(VerifyError::new(VerifyErrorKind::Inconclusive, message));
        }
        tracing::debug!(error, "the API server does not authenticate the token");
        return Ok(Verdict::Reject(RejectReason::Unauthenticated));
    }
    let issuer = claims.and_then(UnverifiedToken::issuer).map(Arc::from);
    let expires_at = claims.and_then(UnverifiedToken::expires_at);
    let good_for = status.audiences.iter().map(String::as_str);
    match Acceptance::from_user_info(status.user, audiences, good_for, issuer, expires_at) {
        Ok(acceptance) => Ok(Verdict::Accept(acceptance)),
        Err(reason) => Ok(Verdict::Reject(reason)),
    }
}
