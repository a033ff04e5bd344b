//! The API server: a handle that is independent of the version of kube, and bounded calls through
//! it.

mod api_client;
mod clock_skew;
mod error;
#[cfg(test)]
pub(crate) mod fake;
#[cfg(feature = "kube")]
mod kube_client;
mod response_body;
mod self_review;
mod server;
#[cfg(test)]
mod tests;
mod transport;

pub(crate) use api_client::ApiClient;
pub(crate) use error::{ApiServerError, ApiServerErrorKind, BIND_AUTH_DELEGATOR, Purpose};
#[cfg(feature = "kube")]
pub use kube_client::ApiServerBuildError;
#[cfg(feature = "watch")]
pub(crate) use response_body::{ResponseBody, TooLarge};
pub(crate) use self_review::Right;
pub use server::ApiServer;
