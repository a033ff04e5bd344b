//! The way from a token to a decision: cache, pre-check, limits and single-flight around a
//! verifier. Usable without Tower.

#[expect(clippy::module_inception, reason = "named after the type that it holds")]
mod authenticator;
mod build_error;
mod builder;
mod invalidate;
mod metrics;
mod precheck;
mod self_check;
mod token_loader;

pub use self::metrics::AuthenticatorMetrics;
pub use authenticator::Authenticator;
pub use build_error::AuthenticatorBuildError;
pub use builder::AuthenticatorBuilder;
pub use self_check::SelfCheck;
