//! The ways to verify whose revocation times are compared.

use tower_kube_auth::{
    ApiServer, Authenticator, JwksVerifier, LiveObjects, LocalReviewVerifier, TokenReviewVerifier,
    Verifier, VerifierExt as _, authenticator::AuthenticatorBuilder,
};

use crate::{
    fixture::Outcome,
    service::{AUDIENCE, Service},
};

#[derive(Clone, Copy)]
pub(crate) enum Mode {
    Live,
    WatchedTokenReview,
    TokenReview,
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Live => "LocalReviewVerifier, invalidated_by",
            Self::WatchedTokenReview => "TokenReviewVerifier, invalidated_by",
            Self::TokenReview => "TokenReviewVerifier alone",
        }
    }

    /// Returns the service in this mode with defaults otherwise, once its watch is synced.
    pub(crate) async fn service(self, server: ApiServer) -> Outcome<Service> {
        let review = TokenReviewVerifier::new(server.clone());
        let builder = match self {
            Self::Live => return Ok(Service::new(live(server).await?.build()?)),
            Self::WatchedTokenReview => builder(review).invalidated_by(&synced(server).await?),
            Self::TokenReview => builder(review),
        };
        Ok(Service::new(builder.build()?))
    }
}

/// Returns the live mode, once its watch is synced.
pub(crate) async fn live(server: ApiServer) -> Outcome<AuthenticatorBuilder> {
    let live_objects = synced(server.clone()).await?;
    let jwks = JwksVerifier::in_cluster(server.clone()).build()?;
    let verifier = LocalReviewVerifier::new(jwks, live_objects.clone())
        .or_when_inconclusive(TokenReviewVerifier::new(server));
    Ok(builder(verifier).invalidated_by(&live_objects))
}

async fn synced(server: ApiServer) -> Outcome<LiveObjects> {
    let live_objects = LiveObjects::builder(server).build()?;
    live_objects.synced().await;
    Ok(live_objects)
}

fn builder(verifier: impl Verifier) -> AuthenticatorBuilder {
    Authenticator::builder(verifier).audience(AUDIENCE)
}
