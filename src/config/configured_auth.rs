//! What an [`AuthConfig`](super::AuthConfig) builds.

use crate::{
    authenticator::Authenticator,
    authorizer::DynAuthorizer,
    server::{AuthenticateLayer, AuthorizeLayer},
    verifier::jwks::JwksVerifier,
};

/// An authenticator and the rules of its audiences. Cheap to clone; clones share one state.
#[derive(Clone, Debug)]
pub struct ConfiguredAuth {
    authenticator: Authenticator,
    authorizer: DynAuthorizer,
    jwks: Option<JwksVerifier>,
}

impl ConfiguredAuth {
    pub(super) fn new(
        authenticator: Authenticator,
        authorizer: DynAuthorizer,
        jwks: Option<JwksVerifier>,
    ) -> Self {
        Self { authenticator, authorizer, jwks }
    }

    /// Returns both layers as one: a pair of layers is a layer, the first of which is the
    /// outermost. So the rules cannot be left out by mistake.
    ///
    /// To set options, take the pair apart and make a new one:
    ///
    /// ```
    /// # fn example(auth: tower_kube_auth::config::ConfiguredAuth) -> axum::Router {
    /// use axum::{Router, routing::get};
    ///
    /// let (authenticate, authorize) = auth.layers();
    /// let layers = (authenticate.grpc(false), authorize.grpc(false));
    /// Router::new().route("/", get(async || "hello")).layer(layers)
    /// # }
    /// ```
    #[must_use = "a service is protected by `.layer(auth.layers())`"]
    pub fn layers(&self) -> (AuthenticateLayer, AuthorizeLayer) {
        (self.authenticator.layer(), AuthorizeLayer::new(self.authorizer.clone()))
    }

    /// Returns the authenticator, for its metrics and invalidations. Its own
    /// [`layer`](Authenticator::layer) knows nothing of the rules.
    #[must_use]
    pub fn authenticator(&self) -> &Authenticator {
        &self.authenticator
    }

    /// Returns the rules, for a service without Tower.
    #[must_use]
    pub fn authorizer(&self) -> &DynAuthorizer {
        &self.authorizer
    }

    /// Returns the verifier with the keys, if the configuration names one, for its metrics.
    #[must_use]
    pub fn jwks_verifier(&self) -> Option<&JwksVerifier> {
        self.jwks.as_ref()
    }
}
