//! The authorize middleware, which lets a request through if an authorizer allows it.

mod future;
mod layer;
mod logged;
mod outcome;
mod service;

pub use future::AuthorizeFuture;
pub use layer::AuthorizeLayer;
pub use service::Authorize;
