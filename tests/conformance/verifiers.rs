//! Both verifiers of this crate, with the rights of a service's own ServiceAccount.

use std::time::Duration;

use kube::Client;
use tower_kube_auth::{
    BearerToken, JwksVerifier, ServiceAccountIdentity, TokenReviewVerifier, Verifier,
    audience::Audiences,
    error::VerifyError,
    verdict::{RejectReason, Verdict},
};

use crate::fixture::{Fixture, Outcome};

/// The ServiceAccount that the verifiers act as.
pub(crate) const ACCOUNT: &str = "verifier";

/// Short enough to wait for in a scenario.
const COOLDOWN: Duration = Duration::from_secs(1);

pub(crate) struct Verifiers {
    pub(crate) review: TokenReviewVerifier,
    pub(crate) jwks: JwksVerifier,
}

impl Fixture {
    /// Returns both verifiers as a ServiceAccount with exactly the documented rights.
    pub(crate) async fn verifiers(&self) -> Outcome<Verifiers> {
        self.service_account(ACCOUNT).await?;
        self.grant_auth_delegator(ACCOUNT).await?;
        self.verifiers_as(&self.token(ACCOUNT, &[]).await?)
    }

    /// Returns both verifiers with `token` as their own credential.
    pub(crate) fn verifiers_as(&self, token: &str) -> Outcome<Verifiers> {
        let client = self.cluster().client_for(token);
        Ok(Verifiers { review: TokenReviewVerifier::new(client.clone()), jwks: offline(client) })
    }
}

/// The offline verifier, with the keys of the cluster of `client`.
pub(crate) fn offline(client: Client) -> JwksVerifier {
    let verifier = JwksVerifier::in_cluster(client).unknown_key_cooldown(COOLDOWN);
    verifier.build().expect("a verifier")
}

/// The decisions of both verifiers about a token.
#[derive(Debug)]
pub(crate) struct Verdicts {
    pub(crate) review: Verdict,
    pub(crate) jwks: Verdict,
}

impl Verifiers {
    pub(crate) async fn verdicts(&self, token: &str, audience: &str) -> Outcome<Verdicts> {
        let review = verify(&self.review, token, audience).await?;
        let jwks = verify(&self.jwks, token, audience).await?;
        Ok(Verdicts { review, jwks })
    }
}

impl Verdicts {
    /// Asserts that both accept, and returns the identities from TokenReview and JWKS.
    #[track_caller]
    pub(crate) fn accepted(&self) -> (&ServiceAccountIdentity, &ServiceAccountIdentity) {
        (accepted(&self.review), accepted(&self.jwks))
    }

    /// Asserts that both reject: the API server without a reason, as always, and JWKS for `reason`.
    #[track_caller]
    pub(crate) fn rejected(&self, what: &str, reason: RejectReason) {
        assert_eq!(
            self.review,
            Verdict::Reject(RejectReason::Unauthenticated),
            "{what}: by TokenReview"
        );
        assert_eq!(self.jwks, Verdict::Reject(reason), "{what}: by JWKS");
    }
}

#[track_caller]
pub(crate) fn accepted(verdict: &Verdict) -> &ServiceAccountIdentity {
    match verdict {
        Verdict::Accept(acceptance) => acceptance.identity(),
        Verdict::Reject(reason) => panic!("rejected: {reason}"),
    }
}

pub(crate) async fn verify(
    verifier: &impl Verifier,
    token: &str,
    audience: &str,
) -> Result<Verdict, VerifyError> {
    let audiences = Audiences::new([audience]).expect("an audience");
    verify_for(verifier, token, &audiences).await
}

pub(crate) async fn verify_for(
    verifier: &impl Verifier,
    token: &str,
    audiences: &Audiences,
) -> Result<Verdict, VerifyError> {
    verifier.verify(BearerToken::parse(token).expect("a well-formed token"), audiences).await
}
