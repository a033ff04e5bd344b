//! Fixtures that the test binaries share. Each binary uses a part of them.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failed expectation fails the test"
)]

mod fake_authorizer;
mod fake_verifier;
mod fixture;
mod log;
mod recorder;
mod service;
pub mod token_leaks;
mod wait;

pub use fake_authorizer::{FakeAuthorizer, denied};
pub use fake_verifier::{Behavior, FakeVerifier, accept, token};
pub use fixture::{BothVerifiers, Fixture};
pub use log::Log;
pub use recorder::Recorder;
pub use service::{Answer, Service, anonymous, answer, bearer, with_header};
pub use wait::{drive, idle, join_all, until};
