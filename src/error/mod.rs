//! Infrastructure failures: why a verifier could not decide.

mod details;
mod verify;

pub(crate) use details::{ErrorDetails, error_with_details};
pub use verify::{VerifyError, VerifyErrorKind};
