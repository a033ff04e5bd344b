//! An embedded cluster for tests, without Kubernetes.
//!
//! [`Cluster::start`](crate::testing::Cluster::start) serves the parts of the Kubernetes API that
//! token authentication uses: TokenRequest, TokenReview, SubjectAccessReview, issuer discovery with
//! its keys, RBAC, and ServiceAccounts, Pods, Secrets, Nodes and the RBAC objects with list and
//! watch. It listens on loopback over HTTPS with its own certificate authority. Tokens are signed
//! with real keys and verified by Kubernetes' rules. The cluster shares no code with the verifiers
//! of this crate, so a mistake in one is not repeated in the other.
//!
//! Tests control it: they issue valid and hostile tokens, delete the Pod that a token is bound to,
//! rotate keys, move the clock ([`ManualClock`]), inject faults ([`Fault`]), count requests, or
//! stop the server.
//!
//! ```
//! use tower_kube_auth::testing::{Cluster, Endpoint};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = Cluster::start().await?;
//! cluster.create_service_account("team-a", "robot");
//! let token = cluster.token("team-a", "robot").audience("my-service").issue()?;
//!
//! let review = serde_json::json!({"spec": {"token": token, "audiences": ["my-service"]}});
//! let request = http::Request::post("/apis/authentication.k8s.io/v1/tokenreviews")
//!     .body(review.to_string().into())?;
//! let review: serde_json::Value = cluster.kube_client()?.request(request).await?;
//! assert_eq!(review["status"]["user"]["username"], "system:serviceaccount:team-a:robot");
//! assert_eq!(cluster.calls(Endpoint::TokenReview), 1);
//! # Ok(()) }
//! ```
//!
//! Limitations: nothing runs the Pods; update, patch and selectors are not implemented.

mod algorithm;
mod api;
mod authentication;
mod builder;
mod calls;
mod certificates;
mod cluster;
mod control;
mod endpoint;
mod error;
mod fault;
mod history;
mod identity;
mod jws_parser;
mod key_ring;
mod keys;
mod legacy_token;
mod list;
mod list_options;
mod lock;
mod lookup;
mod object_api;
mod objects;
mod rbac;
mod release;
mod reply;
mod representation;
mod request_info;
mod server;
mod signatures;
mod state;
mod status;
mod subject_access_review;
mod token_request;
mod token_review;
mod token_rules;
mod user;
mod watch;

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::panic, reason = "a panic is how a test fails")]
mod tests;

pub use self::{
    algorithm::Algorithm, builder::ClusterBuilder, cluster::Cluster, control::tokens::TokenBuilder,
    endpoint::Endpoint, error::ClusterError, fault::Fault, identity::IdentityBuilder,
    keys::SigningKey, release::Release, signatures::sign_hs256,
};
pub use crate::clock::manual::ManualClock;
#[doc(hidden)]
pub use crate::sync_point::set_sync_point_hook;
