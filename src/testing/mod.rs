//! An embedded cluster for tests, without Kubernetes.
//!
//! [`Cluster::start`](crate::testing::Cluster::start) serves, over HTTPS with an authority of its own on loopback, what token authentication needs of a
//! Kubernetes API server: TokenRequest, TokenReview, SubjectAccessReview, issuer discovery with its keys, RBAC, and
//! ServiceAccounts, Pods, Secrets and RBAC's own objects. Tokens are signed with real keys and judged by Kubernetes'
//! own rules. It shares no code with the verifiers of this crate, so that it can contradict them.
//!
//! Tests steer it: they issue good and hostile tokens, delete the Pod that a token is bound to, rotate keys, move the
//! clock ([`ManualClock`]), make endpoints fail ([`Fault`]), count
//! calls, or take the server down.
//!
//! ```
//! use tower_kube_auth::testing::{Cluster, Endpoint};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = Cluster::start().await?;
//! cluster.create_service_account("team-a", "robot");
//! let token = cluster.token("team-a", "robot").audience("my-service").issue()?;
//!
//! let review = serde_json::json!({"spec": {"token": token, "audiences": ["my-service"]}});
//! let request = http::Request::post("/apis/authentication.k8s.io/v1/tokenreviews").body(review.to_string().into())?;
//! let review: serde_json::Value = cluster.kube_client()?.request(request).await?;
//! assert_eq!(review["status"]["user"]["username"], "system:serviceaccount:team-a:robot");
//! assert_eq!(cluster.calls(Endpoint::TokenReview), 1);
//! # Ok(()) }
//! ```
//!
//! It is not a cluster: nothing runs the Pods, and there is no watch, no update and no patch.

mod api;
mod authentication;
mod builder;
mod calls;
mod certificates;
mod clients;
mod error;
mod etcd_outage;
mod fault;
mod grants;
mod identity;
mod jws;
mod key_ring;
mod keys;
mod legacy_token;
mod object_api;
mod objects;
mod projected_volume;
mod rbac;
mod request_info;
mod server;
mod state;
mod status;
mod subject_access_review;
mod token_request;
mod token_review;
mod token_rules;
mod tokens;

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::panic, reason = "a panic is how a test fails")]
mod tests;

use std::{fmt, net::SocketAddr, sync::Arc};

pub use self::{
    builder::ClusterBuilder,
    error::ClusterError,
    fault::{Endpoint, Fault},
    identity::IdentityBuilder,
    keys::{Algorithm, SigningKey, sign_hs256},
    tokens::TokenBuilder,
};
pub use crate::clock::manual::ManualClock;

/// A running embedded cluster. See the [module's documentation](self).
///
/// Dropping it stops the server and ends its connections.
pub struct Cluster {
    state: Arc<state::State>,
    server: server::Server,
    authority: certificates::Authority,
    url: String,
    admin_token: String,
}

/// The Kubernetes release that a [`Cluster`] behaves as, where releases differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Release {
    /// 1.20: tokens have no `jti` and no node, users no `credential-id`, and no token is bound to a node.
    V1_20,
    /// 1.36: tokens have a `jti`, and that of a scheduled Pod has its node.
    #[default]
    V1_36,
}

/// Starting, and where it is.
impl Cluster {
    /// Starts a cluster with every default of [`builder`](Self::builder).
    ///
    /// # Errors
    /// If no port or no random numbers can be had.
    pub async fn start() -> Result<Self, ClusterError> {
        Self::builder().start().await
    }

    /// A cluster with options.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::default()
    }

    /// The API server's URL, such as `https://127.0.0.1:40123`. The port stays the same for the cluster's life.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The API server's address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The `iss` of the tokens.
    #[must_use]
    pub fn issuer(&self) -> &str {
        self.state.issuer()
    }

    /// The authority that the API server's certificate is from, as PEM: what a Pod finds in `ca.crt`.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.authority.pem
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("url", &self.url).finish_non_exhaustive()
    }
}
