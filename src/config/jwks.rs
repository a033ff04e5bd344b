//! The origin of the keys and the options of a JWKS verifier.

use std::path::PathBuf;

use serde::Deserialize;

use super::{
    error::AuthConfigError,
    value::{DurationValue, KeyText, ListValue, apply},
};
use crate::{
    api_server::ApiServer,
    verifier::jwks::{Algorithm, JwksBuildError, JwksBuilder, JwksVerifier},
};

const PATH: &str = "verifier.jwks";

/// The origin of the keys, which is the API server by default, and the options of a `JwksVerifier`.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct JwksConfig {
    /// The HTTPS URL of an issuer outside of the cluster, whose keys are fetched by discovery.
    discover: Option<String>,
    /// CA certificates in PEM, the only ones that `discover` trusts.
    root_certificate: Option<KeyText>,
    /// A JWK Set.
    from_jwks: Option<KeyText>,
    /// The path of a file with a JWK Set, which is read again with `refresh_interval`.
    from_jwks_file: Option<PathBuf>,
    /// `PUBLIC KEY` blocks in PEM.
    from_pem: Option<KeyText>,
    /// The issuers whose tokens are accepted.
    issuer: Option<ListValue>,
    /// The allowed algorithms, such as `ES384`.
    algorithms: Option<ListValue>,
    /// The tolerated clock skew.
    leeway: Option<DurationValue>,
    /// The longest lifetime of an accepted token, from `iat` to `exp`.
    max_token_lifetime: Option<DurationValue>,
    /// The period of the background refresh.
    refresh_interval: Option<DurationValue>,
    /// The shortest time between two fetches that unknown key ids trigger.
    unknown_key_cooldown: Option<DurationValue>,
    /// The greatest age of the keys. With older ones, tokens are undecided.
    max_key_age: Option<DurationValue>,
    /// The time limit of a fetch.
    fetch_timeout: Option<DurationValue>,
    /// The names of the API server's own audience, for the option of that name beside `verifier`.
    api_server_audience: Option<ListValue>,
    /// Accepts the tokens of Secrets too, which have no audience and never expire.
    #[serde(default)]
    dangerous_accept_legacy_tokens: bool,
}

impl JwksConfig {
    pub(super) fn build(&self, api_server: &ApiServer) -> Result<JwksVerifier, AuthConfigError> {
        self.builder(api_server)?.build().map_err(|error| self.locate(&error))
    }

    pub(super) fn builder(&self, api_server: &ApiServer) -> Result<JwksBuilder, AuthConfigError> {
        type Builder = JwksBuilder;
        let mut builder = self.origin(api_server)?;
        for issuer in self.issuer.iter().flat_map(ListValue::iter) {
            builder = builder.issuer(issuer);
        }
        if let Some(names) = &self.algorithms {
            let algorithms: Result<Vec<_>, _> =
                names.iter().enumerate().map(|(index, name)| algorithm(index, name)).collect();
            builder = builder.algorithms(algorithms?);
        }
        for audience in self.api_server_audience.iter().flat_map(ListValue::iter) {
            builder = builder.api_server_audience(audience);
        }
        builder = apply(self.leeway, builder, Builder::leeway);
        builder = apply(self.max_token_lifetime, builder, Builder::max_token_lifetime);
        builder = apply(self.refresh_interval, builder, Builder::refresh_interval);
        builder = apply(self.unknown_key_cooldown, builder, Builder::unknown_key_cooldown);
        builder = apply(self.max_key_age, builder, Builder::max_key_age);
        builder = apply(self.fetch_timeout, builder, Builder::fetch_timeout);
        if self.dangerous_accept_legacy_tokens {
            builder = builder.dangerous_accept_legacy_tokens();
        }
        Ok(builder)
    }

    fn origin(&self, api_server: &ApiServer) -> Result<JwksBuilder, AuthConfigError> {
        let origins = self.origins();
        if let [first, second, ..] = &origins[..] {
            let problem = format!("{first} and {second} contradict each other: keep one of them");
            return Err(AuthConfigError::new(PATH, problem));
        }
        if self.root_certificate.is_some() && self.discover.is_none() {
            let problem = "has no effect without discover: drop it, or set discover";
            return Err(AuthConfigError::new(field("root_certificate"), problem));
        }
        if let Some(issuer) = &self.discover {
            return self.discovery(issuer);
        }
        Ok(match (&self.from_jwks, &self.from_jwks_file, &self.from_pem) {
            (Some(json), ..) => JwksVerifier::from_jwks(&json.0),
            (_, Some(path), _) => JwksVerifier::from_jwks_file(path),
            (.., Some(pem)) => JwksVerifier::from_pem(&pem.0),
            (None, None, None) => JwksVerifier::in_cluster(api_server.clone()),
        })
    }

    fn origins(&self) -> Vec<&'static str> {
        [
            ("discover", self.discover.is_some()),
            ("from_jwks", self.from_jwks.is_some()),
            ("from_jwks_file", self.from_jwks_file.is_some()),
            ("from_pem", self.from_pem.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, is_set)| is_set.then_some(name))
        .collect()
    }

    #[cfg(feature = "http-discovery")]
    fn discovery(&self, issuer: &str) -> Result<JwksBuilder, AuthConfigError> {
        let builder = JwksVerifier::discover(issuer);
        Ok(match &self.root_certificate {
            Some(pem) => builder.root_certificate(pem.0.as_bytes()),
            None => builder,
        })
    }

    #[cfg(not(feature = "http-discovery"))]
    fn discovery(&self, _: &str) -> Result<JwksBuilder, AuthConfigError> {
        let problem = "needs the Cargo feature `http-discovery` of tower-kube-auth";
        Err(AuthConfigError::new(field("discover"), problem))
    }

    fn locate(&self, error: &JwksBuildError) -> AuthConfigError {
        let name = match error {
            // Discovery brings its own issuer, so a wrong one may be its URL.
            JwksBuildError::Issuer { issuer, .. } if self.discover.as_ref() == Some(issuer) => {
                "discover"
            }
            JwksBuildError::NoIssuer | JwksBuildError::Issuer { .. } => "issuer",
            JwksBuildError::NoAlgorithm => "algorithms",
            JwksBuildError::LeewayTooLong { .. } => "leeway",
            JwksBuildError::ApiServerAudience(_) => "api_server_audience",
            JwksBuildError::KeyAgeOfGivenKeys | JwksBuildError::KeyAgeTooShort { .. } => {
                "max_key_age"
            }
            JwksBuildError::Zero(option) => option,
            JwksBuildError::File { .. } => "from_jwks_file",
            JwksBuildError::Keys(_) => self.origins().first().copied().unwrap_or_default(),
            JwksBuildError::RootCertificate(_) => "root_certificate",
        };
        AuthConfigError::new(field(name), error)
    }
}

fn algorithm(index: usize, name: &str) -> Result<Algorithm, AuthConfigError> {
    Algorithm::from_name(name).ok_or_else(|| {
        let known = Algorithm::ALL.map(Algorithm::as_str).join(", ");
        let problem = format!("{name:?} is no known algorithm: use one of {known}");
        AuthConfigError::new(format!("{PATH}.algorithms[{index}]"), problem)
    })
}

fn field(name: &str) -> String {
    format!("{PATH}.{name}")
}
