//! Fixtures that the benches share.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "each bench uses a part of this module; a bench reads the clock, prints, and panics on a failed expectation"
)]

pub mod backend;
pub mod by_hand;
pub mod contest;
pub mod floor;
pub mod hits;
pub mod pods;
pub mod requests;
pub mod review;
pub mod tokens;
