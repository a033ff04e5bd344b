//! Tower and axum middleware that authenticates Kubernetes ServiceAccounts.
//!
//! A bearer token goes in, a typed [`ServiceAccountIdentity`] comes out in the request's
//! extensions, and axum handlers take it as an argument.
//!
//! ```no_run
//! # use axum::{Router, routing::get};
//! # use tower_kube_auth::{ApiServer, Authenticator, ServiceAccountIdentity, TokenReviewVerifier};
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let api = ApiServer::try_default().await?;
//! let auth = Authenticator::builder(TokenReviewVerifier::new(api)).audience("my-audience").build()?;
//! let app: Router = Router::new().route("/", get(whoami)).layer(auth.layer());
//!
//! async fn whoami(caller: ServiceAccountIdentity) -> String {
//!     format!("hello, {}", caller.username())
//! }
//! # Ok(()) }
//! ```
//!
//! - [`Authenticator`]: the whole way from a token to a decision; its
//!   [builder](authenticator::AuthenticatorBuilder) has the options.
//! - [`metrics_auth`]: both layers for an operator's `/metrics`.
//! - [`server`]: the layer, the extractors, and what is answered to whom.
//! - `TokenReviewVerifier` and `JwksVerifier`, or a [`Verifier`] of your own, make the decision.
//! - [`client`]: the caller's side, tokens for outgoing requests.
//! - `testing::Cluster`: an embedded cluster for tests.
//! - [`inspect`]: looks into a token without verifying it.
//! - [`guide`]: how to do a whole task, such as the first request on a cluster.
//!
//! # Features
//!
//! | feature | default | what it brings |
//! |---|---|---|
//! | `server` | yes | [`Authenticator`] and the [`server`] middleware; without it, the crate is the [`client`] side and the verifiers |
//! | `kube` | yes | `ApiServer::try_default`, `ApiServer::from_parts` and `From<kube::Client>`; without it, pass a client to [`ApiServer::from_service`] |
//! | `jwks` | yes | `JwksVerifier` |
//! | `axum` | yes | the extractors |
//! | `rustls-tls` | yes | TLS for the `kube` client by rustls on aws-lc-rs |
//! | `http-discovery` | no | `JwksVerifier::discover`, for issuers outside of the cluster: `reqwest` |
//! | `watch` | no | [`live_objects`], which tells deleted objects from live ones |
//! | `config` | no | [`config`], a service's configuration from a file |
//! | `metrics` | no | counters, gauges and histograms, by the facade [`metrics`](https://docs.rs/metrics): see the guide `docs/metrics.md` |
//! | `testing` | no | `testing`, the embedded cluster |
//! | `latest` | no | forwards to `k8s-openapi/latest` |
//! | `full` | no | all but `latest` |

#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(feature = "server"),
    allow(dead_code, unused_imports, reason = "the authenticator is what uses some shared parts")
)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod api_server;
mod api_types;
pub mod audience;
#[cfg(feature = "server")]
pub mod authenticator;
#[cfg(feature = "server")]
pub mod authorizer;
mod background_task;
mod backoff;
#[cfg(feature = "server")]
mod cache;
mod catch_panic;
pub mod client;
pub mod clock;
#[cfg(feature = "config")]
pub mod config;
mod counters;
pub mod error;
#[cfg(any(doc, doctest))]
pub mod guide;
pub mod identity;
pub mod inspect;
mod json;
mod jws;
#[cfg(feature = "watch")]
pub mod live_objects;
mod lock;
#[cfg(feature = "server")]
mod metrics_auth;
mod mounted_file;
pub mod readiness;
#[cfg(feature = "server")]
pub mod server;
#[cfg(any(feature = "server", feature = "jwks"))]
mod single_flight;
#[cfg(feature = "server")]
mod sync_point;
mod telemetry;
mod token;
pub mod verdict;
pub mod verifier;
mod warn_limit;

#[cfg(feature = "testing")]
pub mod testing;

pub use api_server::ApiServer;
pub use audience::Audiences;
#[cfg(feature = "server")]
pub use authenticator::Authenticator;
pub use error::VerifyError;
pub use identity::ServiceAccountIdentity;
/// The version of kube whose clients an [`ApiServer`] is made from.
#[cfg(feature = "kube")]
pub use kube;
#[cfg(feature = "watch")]
pub use live_objects::LiveObjects;
#[cfg(feature = "server")]
pub use metrics_auth::{MetricsAuthLayer, metrics_auth};
pub use token::{BearerToken, MalformedToken};
pub use verdict::Verdict;
#[cfg(feature = "jwks")]
pub use verifier::jwks::JwksVerifier;
#[cfg(all(feature = "jwks", feature = "watch"))]
pub use verifier::local_review::LocalReviewVerifier;
pub use verifier::token_review::TokenReviewVerifier;
pub use verifier::{DynVerifier, Verifier, VerifierExt};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
