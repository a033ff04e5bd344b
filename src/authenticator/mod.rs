//! The way from a token to a decision: cache, pre-check, limits and single-flight around a
//! verifier. Usable without Tower.

#[expect(clippy::module_inception, reason = "named after the type that it holds")]
mod authenticator;
mod backend;
mod build_error;
mod builder;
mod invalidate;
mod limit;
mod lookup;
mod metrics;
mod precheck;
mod recent_failure;
mod shared;
mod tasks;
mod warn_limit;

pub use authenticator::Authenticator;
pub use build_error::AuthenticatorBuildError;
pub use builder::AuthenticatorBuilder;
pub(crate) use lookup::{Lookup, Waiting};
pub use metrics::AuthenticatorMetrics;

pub(crate) use crate::cache::Digest;
pub(crate) use warn_limit::WarnLimit;
