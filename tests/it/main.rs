//! The integration tests: one binary, so that it links once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a test that meets what it did not expect is to fail"
)]

mod answers;
mod architecture;
mod caching;
mod client_side;
mod combinations;
mod computing;
mod credentials;
mod embedded_cluster;
mod extractors;
mod invalidation;
mod leaks;
mod manifests;
mod offline;
mod properties;
mod refresh_ahead;
mod scripted;
mod single_flight;
mod stale;
mod switch;
mod tower_contract;
mod under_fire;
