//! The caller's side: tokens for outgoing requests.
//!
//! A ServiceAccount token is safe to send to another service only if it is bound to that service's
//! audience: with any other, that service could act as its caller elsewhere. The caller therefore
//! gets a token for each audience, keeps it fresh, and sends it to the intended origin only.
//!
//! 1. A [`TokenSource`] provides the token: [`ProjectedToken`] (a file that kubelet keeps fresh;
//!    needs no right and no API call; the best choice where the Pod's manifest can name the
//!    audience), [`TokenRequestSource`] (asks the API server; for audiences that are known at run
//!    time only), [`StaticToken`], or your own implementation.
//! 2. An [`AddTokenLayer`] adds it to the requests of any Tower HTTP client.
//!
//! ```
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_kube_auth::{client::{AddTokenLayer, TokenRequestSource}, testing::Cluster};
//!
//! # let cluster = Cluster::start().await?;
//! # cluster.create_service_account("shop", "checkout");
//! # let kube_client = cluster.admin_client()?;
//! # let http_client = service_fn(|request: Request<()>| async move {
//! #     assert!(request.headers()["authorization"].is_sensitive());
//! #     Ok::<_, std::io::Error>(Response::new(()))
//! # });
//! let source = TokenRequestSource::builder(kube_client).audience("orders")
//!     .namespace("shop").service_account("checkout") // in a Pod: its own, by default
//!     .build()?;
//! let add_token = AddTokenLayer::new(source, ["https://orders.shop.svc"])?;
//! let client = ServiceBuilder::new().layer(add_token).service(http_client);
//!
//! let request = Request::get("https://orders.shop.svc/v1/orders").body(())?;
//! assert!(client.oneshot(request).await?.status().is_success());
//! # Ok(()) }
//! ```

mod add_token;
mod error;
mod projected;
mod refresher;
mod source;
mod static_token;
mod token;
mod token_request;

pub use add_token::{AddToken, AddTokenLayer, InvalidOrigin, ResponseFuture};
pub use error::{TokenError, TokenErrorKind};
pub use projected::ProjectedToken;
pub use source::TokenSource;
pub use static_token::StaticToken;
pub use token::Token;
pub use token_request::{
    BoundObjectRef, TokenRequestBuildError, TokenRequestBuilder, TokenRequestSource,
};
