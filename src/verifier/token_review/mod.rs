//! Verification by the API server: the TokenReview API.

mod redact;
mod status_error;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use crate::{
    api_server::{ApiClient, ApiServer, BIND_AUTH_DELEGATOR, Purpose, Right},
    api_types::{TokenReviewRequest, TokenReviewResponse, TokenReviewStatus},
    audience::Audiences,
    clock::Clock,
    error::{VerifyError, VerifyErrorKind},
    inspect::UnverifiedToken,
    json::{Object, ReadError},
    readiness::Need,
    telemetry::Stage,
    token::BearerToken,
    verdict::{Acceptance, RejectReason, Verdict},
    verifier::Verifier,
};

const PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
const PURPOSE: Purpose = Purpose {
    call: "TokenReview",
    when_forbidden: BIND_AUTH_DELEGATOR,
    stage: Some(Stage::Authentication),
};
const RIGHT: Right = Right {
    name: "create tokenreviews",
    group: "authentication.k8s.io",
    resource: "tokenreviews",
    remedy: BIND_AUTH_DELEGATOR,
};

/// Verifies each token by a call to the API server ([TokenReview]), which knows of deleted
/// ServiceAccounts, Pods and Secrets at once.
///
/// The service's own ServiceAccount needs the ClusterRole `system:auth-delegator`, by a
/// ClusterRoleBinding.
///
/// A token is accepted only if the API server authenticates it *and* names one of the requested
/// audiences *and* the user is strictly a ServiceAccount. With
/// [`api_server_audience`](crate::authenticator::AuthenticatorBuilder::api_server_audience) it asks
/// for none, so that being authenticated means being valid for the API server.
///
/// A call makes up to five attempts within its [time limit](Self::timeout); see [`ApiServer`].
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_kube_auth::{ApiServer, Authenticator, TokenReviewVerifier};
///
/// let api = ApiServer::try_default().await?;
/// let auth =
///     Authenticator::builder(TokenReviewVerifier::new(api)).audience("my-audience").build()?;
/// # Ok(()) }
/// ```
///
/// [TokenReview]: https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-review-v1/
#[derive(Clone, Debug)]
pub struct TokenReviewVerifier {
    api_client: ApiClient,
}

impl TokenReviewVerifier {
    /// Verifies tokens by calls to `api_server`.
    #[must_use]
    pub fn new(api_server: impl Into<ApiServer>) -> Self {
        Self { api_client: ApiClient::new(api_server.into(), DEFAULT_TIMEOUT, PURPOSE) }
    }

    /// Sets the time limit of a review with all its attempts. Defaults to 10 s, as in
    /// k8s.io/apiserver's webhook client. See [`ApiServer`] for the limit of each attempt.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.api_client.timeout = limit;
        self
    }

    /// Sets the clock of back-off and time limits. Defaults to the system's.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.api_client.clock = clock;
        self
    }
}

impl Verifier for TokenReviewVerifier {
    async fn verify(
        &self,
        token: BearerToken<'_>,
        audiences: &Audiences,
    ) -> Result<Verdict, VerifyError> {
        let wanted = match audiences.required() {
            Some(wanted) => wanted.to_vec(),
            // TokenReview cannot ask for any audience, so this asks for those that the token names.
            None => {
                let claims = UnverifiedToken::decode(token.expose_secret()).ok();
                claims.iter().flat_map(UnverifiedToken::audiences).map(Arc::from).collect()
            }
        };
        let review = serde_json::to_vec(&TokenReviewRequest::new(token.expose_secret(), &wanted))
            .map_err(|error| {
            VerifyError::new(VerifyErrorKind::Aborted, "TokenReview: not serialised")
                .with_source(error)
        })?;
        let answer = self
            .api_client
            .post(PATH, review.into())
            .await
            .map_err(|error| redact::error(token, error.into()))?;
        let Object(review): Object<TokenReviewResponse> =
            serde_json::from_slice(&answer).map_err(ReadError::from).map_err(|error| {
                let message =
                    "TokenReview: the API server's answer is not a TokenReview with a status";
                VerifyError::new(VerifyErrorKind::InvalidResponse, message).with_source(error)
            })?;
        let Object(status) = review.status;
        decide(token, status, audiences)
    }

    fn supports_api_server_audience(&self) -> bool {
        true
    }

    /// The right to create TokenReviews, and a clock that agrees with the API server's.
    async fn check_needs(&self) -> Vec<Need> {
        self.api_client.check_right(&RIGHT).await
    }
}

/// Returns the decision that follows from the status of a review, and an error if the API server
/// did not decide.
///
/// The token's own claims give only what TokenReview does not (issuer and expiry), and only after
/// the API server has authenticated these very bytes.
fn decide(
    token: BearerToken<'_>,
    status: TokenReviewStatus,
    audiences: &Audiences,
) -> Result<Verdict, VerifyError> {
    if !status.authenticated {
        let error = redact::message(token, &status.error);
        if status_error::is_lookup_failure(&status.error) {
            let message = format!(
                "TokenReview: the API server could not look up the token's ServiceAccount: {error}"
            );
            return Err(VerifyError::new(VerifyErrorKind::Inconclusive, message));
        }
        tracing::debug!(error, "the API server does not authenticate the token");
        return Ok(Verdict::Reject(RejectReason::Unauthenticated));
    }
    let claims = UnverifiedToken::decode(token.expose_secret()).ok();
    let confirmed = status.audiences.iter().map(String::as_str);
    let mut acceptance = Acceptance::builder(status.user, confirmed);
    if let Some(issuer) = claims.as_ref().and_then(UnverifiedToken::issuer) {
        acceptance = acceptance.issuer(issuer);
    }
    if let Some(expires_at) = claims.as_ref().and_then(UnverifiedToken::expires_at) {
        acceptance = acceptance.expires_at(expires_at);
    }
    let acceptance = if audiences.is_api_server() {
        acceptance.build_for_api_server()
    } else {
        acceptance.build(audiences)
    };
    match acceptance {
        Ok(acceptance) => Ok(Verdict::Accept(acceptance)),
        Err(reason) => Ok(Verdict::Reject(reason)),
    }
}
