//! The configuration of a service's authentication and authorization, for its own file.
//!
//! [`AuthConfig`] is what a service embeds in its configuration in YAML, TOML, JSON or any other
//! format of serde. [`ConfiguredAuth`] is what it builds: the layers that authenticate callers and
//! check the rules of the audiences that their tokens are for.

mod auth_config;
mod configured_auth;
mod error;
mod jwks;
mod rule;
mod subject_access_review;
#[cfg(test)]
mod tests;
mod value;
mod verifier;

pub use auth_config::AuthConfig;
pub use configured_auth::ConfiguredAuth;
pub use error::AuthConfigError;
