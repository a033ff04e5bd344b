//! The middleware, which turns the token in the `Authorization` header into a
//! [`ServiceAccountIdentity`] in the request's extensions.
//!
//! ```
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use axum::{
//!     Router,
//!     body::Body,
//!     http::{Request, StatusCode},
//!     routing::get,
//! };
//! use tower::ServiceExt;
//! use tower_kube_auth::{
//!     Authenticator, ServiceAccountIdentity, TokenReviewVerifier, testing::Cluster,
//! };
//!
//! async fn whoami(caller: ServiceAccountIdentity) -> String {
//!     format!("hello, {}", caller.username())
//! }
//!
//! let cluster = Cluster::start().await?;
//! cluster.create_service_account("shop", "checkout");
//! let verifier = TokenReviewVerifier::new(cluster.kube_client()?);
//! let auth = Authenticator::builder(verifier).audience("orders").build()?;
//! let app = Router::new().route("/", get(whoami)).layer(auth.layer());
//!
//! let token = cluster.token("shop", "checkout").audience("orders").issue()?;
//! let bearer = format!("Bearer {token}");
//! let request = Request::get("/").header("authorization", bearer).body(Body::empty())?;
//! assert_eq!(app.clone().oneshot(request).await?.status(), StatusCode::OK);
//!
//! let without = Request::get("/").body(Body::empty())?;
//! assert_eq!(app.oneshot(without).await?.status(), StatusCode::UNAUTHORIZED);
//! # Ok(()) }
//! ```
//!
//! The responses:
//!
//! | credential | response |
//! |---|---|
//! | none, or of another scheme | 401, a challenge without an error code ([RFC 6750 §3.1]); with [`optional`], none: the request goes through |
//! | malformed, or more than one | 400 `invalid_request` |
//! | not valid for this service | 401 `invalid_token` |
//! | undecided | 503 and `Retry-After` |
//!
//! POST requests with the `content-type` `application/grpc*` get gRPC responses: 200 with a
//! `grpc-status` of 16 (`UNAUTHENTICATED`) or 14 (`UNAVAILABLE`).
//!
//! Callers are told no reasons. The log has them at `debug`: the reason of each rejection and, if
//! it is the audience, the expected audiences and those of the token, but never the token.
//!
//! [`optional`]: AuthenticateLayer::optional
//! [`ServiceAccountIdentity`]: crate::ServiceAccountIdentity
//! [RFC 6750 §3.1]: https://www.rfc-editor.org/rfc/rfc6750#section-3.1

mod authorize;
mod credential;
#[cfg(feature = "axum")]
mod extract;
mod grpc_request;
mod layer;
mod readyz;
mod rejection;
mod rejection_log;
mod response;
mod response_future;
mod service;

pub use authorize::{Authorize, AuthorizeLayer};
#[cfg(feature = "axum")]
pub use extract::IdentityRejection;
pub use layer::AuthenticateLayer;
pub use readyz::Readyz;
pub use rejection::Rejection;
pub use response::{DefaultRejectionResponse, RejectionResponse};
pub use response_future::ResponseFuture;
pub use service::Authenticate;
