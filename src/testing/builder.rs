//! Configuration and start of a cluster.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    algorithm::Algorithm,
    calls::Calls,
    certificates::Authority,
    cluster::Cluster,
    control::clients::{ADMIN_TOKEN_PREFIX, VERIFIER},
    error::ClusterError,
    fault::Faults,
    key_ring::KeyRing,
    keys::SigningKey,
    objects::{Objects, random_uuid},
    release::Release,
    server::Server,
    state::State,
};
use crate::clock::Clock;

/// Default issuer, as in most real clusters.
const DEFAULT_ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Start.
impl Cluster {
    /// Starts a cluster with every default of [`builder`](Self::builder).
    ///
    /// # Errors
    /// If no port is free or the system's random number generator fails.
    pub async fn start() -> Result<Self, ClusterError> {
        Self::builder().start().await
    }

    /// Returns a builder with the default options.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::default()
    }
}

/// Options for a [`Cluster`]. See [`Cluster::builder`].
///
/// ```
/// use tower_kube_auth::testing::{Algorithm, Cluster, ManualClock, Release};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let time = ManualClock::new();
/// let cluster = Cluster::builder()
///     .clock(time.clock())
///     .issuer("https://issuer.example")
///     .signing_algorithm(Algorithm::ES256)
///     .release(Release::V1_20)
///     .start()
///     .await?;
/// assert_eq!(cluster.issuer(), "https://issuer.example");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `start`"]
pub struct ClusterBuilder {
    clock: Clock,
    release: Release,
    issuers: Vec<String>,
    issuer_at_own_url: bool,
    api_audiences: Vec<String>,
    jwks_uri: Option<String>,
    algorithm: Algorithm,
    anonymous: bool,
    max_token_lifetime: Option<Duration>,
}

impl Default for ClusterBuilder {
    fn default() -> Self {
        Self {
            clock: Clock::system(),
            release: Release::default(),
            issuers: Vec::new(),
            issuer_at_own_url: false,
            api_audiences: Vec::new(),
            jwks_uri: None,
            algorithm: Algorithm::default(),
            anonymous: true,
            max_token_lifetime: None,
        }
    }
}

impl ClusterBuilder {
    /// Sets the clock that tokens are issued and verified by. Defaults to the system's.
    ///
    /// TLS uses the system's clock; its certificates are valid for decades.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the Kubernetes release to behave as. Defaults to [`Release::V1_36`].
    pub fn release(mut self, release: Release) -> Self {
        self.release = release;
        self
    }

    /// Adds an issuer. The first one signs; the others are accepted too, as during a migration
    /// between issuers. [`Release::V1_20`] accepts one only. Defaults to
    /// `https://kubernetes.default.svc.cluster.local`.
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuers.push(issuer.into());
        self
    }

    /// Uses the cluster's URL as the issuer that signs, so that discovery works with the issuer's
    /// name alone.
    pub fn issuer_at_own_url(mut self) -> Self {
        self.issuer_at_own_url = true;
        self
    }

    /// Adds an audience of the API server. Defaults to the first issuer.
    pub fn api_audience(mut self, audience: impl Into<String>) -> Self {
        self.api_audiences.push(audience.into());
        self
    }

    /// Sets the `jwks_uri` of the discovery document. Defaults to the correct
    /// `{url}/openid/v1/jwks`; real clusters often publish an address that Pods cannot reach.
    pub fn jwks_uri(mut self, uri: impl Into<String>) -> Self {
        self.jwks_uri = Some(uri.into());
        self
    }

    /// Sets the algorithm of the first signing key. Defaults to [`Algorithm::RS256`].
    pub fn signing_algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Sets whether a request without a credential authenticates as `system:anonymous` (and gets
    /// 403 for nearly everything) or gets 401. Defaults to true, as `--anonymous-auth` does.
    pub fn anonymous(mut self, anonymous: bool) -> Self {
        self.anonymous = anonymous;
        self
    }

    /// Limits the lifetime of issued tokens (`--service-account-max-token-expiration`). Defaults to
    /// no limit.
    pub fn max_token_lifetime(mut self, lifetime: Duration) -> Self {
        self.max_token_lifetime = Some(lifetime);
        self
    }

    /// Generates keys and certificates, listens on a free port of 127.0.0.1, and serves until the
    /// [`Cluster`] is dropped.
    ///
    /// # Errors
    /// If no port is free, the system's random number generator fails, or the release does not
    /// support an option.
    pub async fn start(self) -> Result<Cluster, ClusterError> {
        let server = Server::bind()
            .map_err(|error| ClusterError::new("cannot listen on loopback", error))?;
        let url = format!("https://{}", server.address());
        let mut issuers = self.issuers;
        if self.issuer_at_own_url {
            issuers.insert(0, url.clone());
        } else if issuers.is_empty() {
            issuers.push(DEFAULT_ISSUER.to_owned());
        }
        if self.release == Release::V1_20 && issuers.len() > 1 {
            return Err(ClusterError::new(
                "Release::V1_20 supports one issuer",
                "Kubernetes supports several since 1.22",
            ));
        }
        let api_audiences = match self.api_audiences {
            none if none.is_empty() => issuers.iter().take(1).cloned().collect(),
            some => some,
        };
        let state = Arc::new(State {
            clock: self.clock,
            release: self.release,
            issuers,
            api_audiences,
            jwks_uri: self.jwks_uri.unwrap_or_else(|| format!("{url}/openid/v1/jwks")),
            anonymous: self.anonymous,
            max_token_lifetime: self.max_token_lifetime.map(|lifetime| lifetime.as_secs()),
            static_tokens: Mutex::new(BTreeMap::new()),
            keys: Mutex::new(KeyRing::new(SigningKey::generate(self.algorithm)?)),
            objects: Mutex::new(Objects::default()),
            watch_cache: Mutex::new(None),
            faults: Faults::default(),
            calls: Calls::default(),
        });
        for namespace in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            state.ensure("namespaces", "", namespace, serde_json::json!({}));
        }
        state.bootstrap_access();
        let admin_token = format!("{ADMIN_TOKEN_PREFIX}{}", random_uuid());
        state.add_static_token(&admin_token, "admin", &["system:masters"]);
        let cluster =
            Cluster { state, server, authority: Authority::generate()?, url, admin_token };
        let (namespace, name) = VERIFIER;
        cluster.create_service_account(namespace, name);
        cluster.grant_auth_delegator(Cluster::VERIFIER);
        cluster.come_up().await?;
        Ok(cluster)
    }
}
