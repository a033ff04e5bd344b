//! Infrastructure failures: why a verifier could not decide.

mod details;
mod verify;

pub(crate) use details::ErrorDetails;
pub use verify::{VerifyError, VerifyErrorKind};
