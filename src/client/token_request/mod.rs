//! Tokens that the API server issues on request: the TokenRequest API.

mod builder;
mod request;
mod source;
mod subject;
#[cfg(test)]
mod tests;

pub use builder::{TokenRequestBuildError, TokenRequestBuilder};
pub use source::TokenRequestSource;
pub use subject::BoundObjectRef;
