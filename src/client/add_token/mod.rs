//! The middleware for clients: a token from a source becomes the `Authorization` header of a
//! request.

mod future;
mod layer;
mod origins;
mod service;
#[cfg(test)]
mod tests;

pub use future::ResponseFuture;
pub use layer::AddTokenLayer;
pub use origins::InvalidOrigin;
pub use service::AddToken;
