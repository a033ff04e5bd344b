//! Issuing tokens without HTTP: valid ones by the API server's rules, and arbitrary ones.

use std::time::Duration;

use serde_json::{Value, json};

use crate::testing::{cluster::Cluster, error::ClusterError, objects::set};

/// Tokens.
impl Cluster {
    /// Returns a builder for a token of a ServiceAccount, as the TokenRequest API issues it.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_kube_auth::testing::Cluster;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cluster = Cluster::start().await?;
    /// cluster.create_service_account("team-a", "robot");
    /// cluster.create_pod("team-a", "robot-0", "robot");
    /// let token = cluster
    ///     .token("team-a", "robot")
    ///     .audience("my-service")
    ///     .expires_in(Duration::from_secs(600))
    ///     .bound_to_pod("robot-0")
    ///     .issue()?;
    /// assert_eq!(token.split('.').count(), 3);
    /// # Ok(()) }
    /// ```
    pub fn token(
        &self,
        namespace: impl Into<String>,
        service_account: impl Into<String>,
    ) -> TokenBuilder<'_> {
        TokenBuilder {
            cluster: self,
            namespace: namespace.into(),
            service_account: service_account.into(),
            audiences: Vec::new(),
            lifetime: None,
            bound: None,
        }
    }

    /// Signs `claims` unchecked with the cluster's key and the header that Kubernetes writes.
    ///
    /// ```
    /// use tower_kube_auth::testing::Cluster;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cluster = Cluster::start().await?;
    /// cluster.create_service_account("team-a", "robot");
    /// let mut claims = cluster.token("team-a", "robot").audience("my-service").claims()?;
    /// claims["exp"] = 0.into();
    /// let expired = cluster.mint(&claims);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn mint(&self, claims: &Value) -> String {
        let key = self.signing_key();
        key.sign(&key.header(), claims)
    }

    /// Signs `claims` and `header` unchecked with the cluster's key.
    /// [`SigningKey::sign`](crate::testing::SigningKey::sign) describes the effect of `alg`.
    #[must_use]
    pub fn mint_with_header(&self, header: &Value, claims: &Value) -> String {
        self.signing_key().sign(header, claims)
    }
}

/// Builder for a token. See [`Cluster::token`].
#[derive(Clone, Debug)]
#[must_use = "no token is issued until `issue`"]
pub struct TokenBuilder<'a> {
    cluster: &'a Cluster,
    namespace: String,
    service_account: String,
    audiences: Vec<String>,
    lifetime: Option<Duration>,
    bound: Option<Value>,
}

impl TokenBuilder<'_> {
    /// Adds an audience. Without any the token is for the API server.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// Sets the lifetime. Defaults to an hour; less than ten minutes is an error, as in Kubernetes.
    /// For a token that expires sooner change its [`claims`](Self::claims) or move the cluster's
    /// clock.
    pub fn expires_in(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// Binds the token to a Pod; deleting the Pod invalidates it.
    pub fn bound_to_pod(self, name: &str) -> Self {
        self.bound_to("Pod", name)
    }

    /// Binds the token to a Secret; deleting the Secret invalidates it.
    pub fn bound_to_secret(self, name: &str) -> Self {
        self.bound_to("Secret", name)
    }

    /// Binds the token to a node, which [`Release::V1_20`](crate::testing::Release::V1_20) does not
    /// support.
    pub fn bound_to_node(self, name: &str) -> Self {
        self.bound_to("Node", name)
    }

    fn bound_to(mut self, kind: &str, name: &str) -> Self {
        self.bound = Some(json!({"apiVersion": "v1", "kind": kind, "name": name}));
        self
    }

    /// Issues the token.
    ///
    /// # Errors
    /// If the TokenRequest API rejects the request, with its [status](ClusterError::status) and
    /// message.
    pub fn issue(self) -> Result<String, ClusterError> {
        let cluster = self.cluster;
        Ok(cluster.mint(&self.claims()?))
    }

    /// Returns the claims that [`issue`](Self::issue) signs, to change and [mint](Cluster::mint)
    /// them.
    ///
    /// # Errors
    /// If the TokenRequest API rejects the request, with its [status](ClusterError::status) and
    /// message.
    pub fn claims(self) -> Result<Value, ClusterError> {
        let mut spec = json!({"audiences": self.audiences});
        if let Some(lifetime) = self.lifetime {
            set(&mut spec, "expirationSeconds", json!(lifetime.as_secs()));
        }
        if let Some(bound) = self.bound {
            set(&mut spec, "boundObjectRef", bound);
        }
        let grant = self.cluster.state.grant_token(
            &self.namespace,
            &self.service_account,
            json!({"spec": spec}),
        )?;
        Ok(grant.claims)
    }
}
