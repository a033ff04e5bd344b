//! The middleware: a token in the `Authorization` header becomes a [`ServiceAccountIdentity`] in the request's extensions.
//!
//! ```
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use axum::{Router, body::Body, http::{Request, StatusCode}, routing::get};
//! use tower::ServiceExt;
//! use tower_kube_auth::{Authenticator, ServiceAccountIdentity, TokenReviewVerifier, testing::Cluster};
//!
//! async fn whoami(caller: ServiceAccountIdentity) -> String {
//!     format!("hello, {}", caller.username())
//! }
//!
//! let cluster = Cluster::start().await?;
//! cluster.create_service_account("shop", "checkout");
//! let auth = Authenticator::builder(TokenReviewVerifier::new(cluster.kube_client()?)).audience("orders").build()?;
//! let app = Router::new().route("/", get(whoami)).layer(auth.layer());
//!
//! let token = cluster.token("shop", "checkout").audience("orders").issue()?;
//! let request = Request::get("/").header("authorization", format!("Bearer {token}")).body(Body::empty())?;
//! assert_eq!(app.clone().oneshot(request).await?.status(), StatusCode::OK);
//!
//! let without = Request::get("/").body(Body::empty())?;
//! assert_eq!(app.oneshot(without).await?.status(), StatusCode::UNAUTHORIZED);
//! # Ok(()) }
//! ```
//!
//! What is answered to whom:
//!
//! | credential | answer |
//! |---|---|
//! | none, or of another scheme | 401 and a challenge without an error code ([RFC 6750 §3.1]); with [`optional`](AuthenticateLayer::optional) the request goes through |
//! | malformed, or more than one | 400 `invalid_request` |
//! | not good here | 401 `invalid_token` |
//! | undecided | 503 and `Retry-After` |
//!
//! POST requests whose `content-type` is `application/grpc*` are answered in gRPC's way, 200 with a `grpc-status`: 16
//! (`UNAUTHENTICATED`) or 14 (`UNAVAILABLE`).
//!
//! [`ServiceAccountIdentity`]: crate::ServiceAccountIdentity
//! [RFC 6750 §3.1]: https://www.rfc-editor.org/rfc/rfc6750#section-3.1

mod credential;
#[cfg(feature = "axum")]
mod extract;
mod future;
mod layer;
mod rejection;
mod response;
mod service;

#[cfg(feature = "axum")]
pub use extract::IdentityRejection;
pub use future::ResponseFuture;
pub use layer::AuthenticateLayer;
pub use rejection::Rejection;
pub use response::{DefaultRejectionResponse, RejectionResponse};
pub use service::Authenticate;
