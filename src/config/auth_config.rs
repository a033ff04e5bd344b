//! The root of the configuration.

use serde::{Deserialize, Deserializer, de::Error};
use serde_path_to_error::Track;

use super::{
    configured_auth::ConfiguredAuth,
    error::AuthConfigError,
    rule::{self, AudienceConfig, RuleConfig},
    value::{DurationValue, ListValue, apply},
    verifier::{BuiltVerifier, VerifierConfig},
};
use crate::{
    api_server::ApiServer,
    authenticator::{Authenticator, AuthenticatorBuildError, AuthenticatorBuilder},
    verifier::DynVerifier,
};

/// A service's authentication and authorization, as a part of its configuration in any format of
/// serde.
///
/// The fields have the names and the defaults of the builders' methods;
/// [`guide::configuration`](crate::guide::configuration) lists them. An unknown field, a duration
/// without a unit, and an empty list are errors while the text is read, which name the field's
/// path. What fields mean together is checked by [`build`](Self::build).
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use axum::{Router, routing::get};
/// use tower_kube_auth::{config::AuthConfig, testing::Cluster};
///
/// #[derive(serde::Deserialize)]
/// struct ServiceConfig {
///     listen: String,
///     auth: AuthConfig,
/// }
///
/// let config: ServiceConfig = serde_saphyr::from_str(r#"
/// listen: 0.0.0.0:8080
/// auth:
///   cache_ttl: 30s
///   audiences:
///     - name: orders
///       rule: { allow_list: [shop/checkout, ops/*] }
///     - name: orders-status
///       rule: { any_authenticated: true }
/// "#)?;
/// # let api = Cluster::start().await?.kube_client()?;
/// // In a service: let api = ApiServer::try_default().await?;
/// let auth = config.auth.build(api).await?;
/// let app: Router = Router::new().route("/", get(async || "orders")).layer(auth.layers());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct AuthConfig(Fields);

/// A service's authentication and authorization by tower-kube-auth.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(title = "AuthConfig"))]
#[serde(deny_unknown_fields)]
pub(super) struct Fields {
    /// The accepted audiences, each with the rule for its callers. A token for several must pass
    /// the rule of each.
    #[cfg_attr(test, schemars(length(min = 1)))]
    audiences: Option<Vec<AudienceConfig>>,
    /// Accepts the tokens that every Pod has for the Kubernetes API, by this rule. In place of
    /// `audiences`.
    api_server_audience: Option<RuleConfig>,
    /// Who decides about tokens.
    #[serde(default)]
    verifier: VerifierConfig,
    /// The accepted issuers. Tokens of others are rejected before any verification.
    issuer: Option<ListValue>,
    /// How long an accepted token is served from the cache.
    cache_ttl: Option<DurationValue>,
    /// How long a rejection is served from the cache.
    reject_ttl: Option<DurationValue>,
    /// How long past its TTL an accepted token is served while the verifier fails.
    serve_stale: Option<DurationValue>,
    /// How many accepted tokens are cached.
    cache_capacity: Option<u64>,
    /// How many rejections are cached.
    reject_capacity: Option<u64>,
    /// The limit on concurrent verifications.
    max_in_flight: Option<usize>,
    /// How long a verification waits for a permit of `max_in_flight`.
    max_wait: Option<DurationValue>,
    /// The time limit of one verification, including its wait.
    verification_timeout: Option<DurationValue>,
    /// The maximum token length, in bytes.
    max_token_length: Option<usize>,
    /// The `realm` of the `WWW-Authenticate` challenge.
    realm: Option<String>,
}

impl AuthConfig {
    /// The [JSON Schema](https://json-schema.org/draft/2020-12) of the configuration, for editors
    /// and for the schema of the configuration that embeds it.
    pub const JSON_SCHEMA: &'static str = include_str!("auth_config.schema.json");

    /// Checks all fields, builds, and loads the keys of a JWKS verifier.
    ///
    /// A failure to load them is logged as a warning and is no error, so that a service can start
    /// during an outage of the API server: the first token loads them then.
    ///
    /// # Errors
    ///
    /// [`AuthConfigError`], which names the field's path, the problem and the remedy.
    pub async fn build(
        &self,
        api_server: impl Into<ApiServer>,
    ) -> Result<ConfiguredAuth, AuthConfigError> {
        let auth = self.0.build(&api_server.into())?;
        if let Some(jwks) = auth.jwks_verifier()
            && let Err(error) = jwks.refresh().await
        {
            tracing::warn!(%error, "the keys could not be loaded at the start");
        }
        Ok(auth)
    }
}

impl<'de> Deserialize<'de> for AuthConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut track = Track::new();
        let tracked = serde_path_to_error::Deserializer::new(deserializer, &mut track);
        Fields::deserialize(tracked).map(Self).map_err(|error| {
            // Formats know lines at most, and a service's format may be none of them.
            let path = track.path();
            if path.iter().next().is_none() {
                error
            } else {
                D::Error::custom(format_args!("{path}: {error}"))
            }
        })
    }
}

impl Fields {
    pub(super) fn build(&self, api_server: &ApiServer) -> Result<ConfiguredAuth, AuthConfigError> {
        let authorizer = match (&self.audiences, &self.api_server_audience) {
            (Some(audiences), None) => rule::per_audience(audiences, api_server)?,
            // There is one audience, whose name this service need not know.
            (None, Some(rule)) => rule.build("api_server_audience", api_server)?,
            (None, None) => {
                let problem = "is missing: add the name that callers request their token for, \
                               with its rule";
                return Err(AuthConfigError::new("audiences", problem));
            }
            (Some(_), Some(_)) => {
                let problem = "contradicts audiences: keep one of them";
                return Err(AuthConfigError::new("api_server_audience", problem));
            }
        };
        let BuiltVerifier { verifier, jwks } = self.verifier.build(api_server)?;
        let authenticator = self
            .authenticator(verifier)
            .build()
            .map_err(|error| AuthConfigError::new(path_of(&error), error))?;
        Ok(ConfiguredAuth::new(authenticator, authorizer, jwks))
    }

    pub(super) fn authenticator(&self, verifier: DynVerifier) -> AuthenticatorBuilder {
        type Builder = AuthenticatorBuilder;
        let mut builder = Authenticator::builder(verifier);
        for audience in self.audiences.iter().flatten() {
            builder = builder.audience(&audience.name);
        }
        if self.api_server_audience.is_some() {
            builder = builder.api_server_audience();
        }
        for issuer in self.issuer.iter().flat_map(ListValue::iter) {
            builder = builder.issuer(issuer);
        }
        builder = apply(self.cache_ttl, builder, Builder::cache_ttl);
        builder = apply(self.reject_ttl, builder, Builder::reject_ttl);
        builder = apply(self.serve_stale, builder, Builder::serve_stale);
        builder = apply(self.cache_capacity, builder, Builder::cache_capacity);
        builder = apply(self.reject_capacity, builder, Builder::reject_capacity);
        builder = apply(self.max_in_flight, builder, Builder::max_in_flight);
        builder = apply(self.max_wait, builder, Builder::max_wait);
        builder = apply(self.verification_timeout, builder, Builder::verification_timeout);
        builder = apply(self.max_token_length, builder, Builder::max_token_length);
        apply(self.realm.clone(), builder, |builder, realm: String| builder.realm(realm))
    }
}

/// Returns the path of the field that the authenticator's builder complains about.
fn path_of(error: &AuthenticatorBuildError) -> &'static str {
    type Error = AuthenticatorBuildError;
    match error {
        Error::Audiences(_) | Error::AnyAndSomeAudiences => "audiences",
        Error::ApiServerAndOtherAudiences | Error::ApiServerAudienceUnsupported => {
            "api_server_audience"
        }
        Error::EmptyIssuer => "issuer",
        Error::Zero(option) | Error::TooLarge(option) | Error::TooLong { option, .. } => option,
        Error::StaleWithoutCache => "serve_stale",
        Error::WaitBeyondTimeout => "max_wait",
        Error::NoReservedPermit => "max_in_flight",
        Error::Realm(_) => "realm",
        Error::NoRandomness => "cache_capacity",
    }
}
