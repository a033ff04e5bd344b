//! The integration tests, in one binary that links once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a failed expectation fails the test"
)]

mod answers;
mod architecture;
mod authorize;
mod caching;
mod client_side;
mod combinations;
mod computing;
mod config;
mod credentials;
mod default_client;
mod embedded_cluster;
mod extractors;
mod fault_injection;
mod graceful_shutdown;
mod hostile;
mod invalidation;
mod local_review;
mod log_volume;
mod manifests;
mod metrics_auth;
mod nested_layers;
mod offline;
mod opaque_tokens;
mod properties;
mod readiness;
mod readyz;
mod refresh_ahead;
mod reload;
mod report_only;
mod single_flight;
mod stale;
mod subject_access_review;
#[path = "../support/mod.rs"]
mod support;
mod telemetry;
mod tower_contract;
mod traces;
