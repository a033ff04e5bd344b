//! The authorize middleware, which lets a request through if an authorizer allows it.

mod decisions;
mod layer;
mod service;

pub use layer::AuthorizeLayer;
pub use service::Authorize;
