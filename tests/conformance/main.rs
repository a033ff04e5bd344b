//! What this crate believes about Kubernetes, checked against Kubernetes.
//!
//! Every scenario is one function and is run against each cluster through the very same client code: as `embedded::…`
//! and `embedded_1_20::…` against [`tower_kube_auth::testing::Cluster`] in its two releases, and as `kube_apiserver::…`
//! against a real API server, so that the embedded one cannot drift from the truth. The real one is either started
//! here, from the programs in the folder `KUBEBUILDER_ASSETS`, or is the one that the kubeconfig named by
//! `TOWER_KUBE_AUTH_CONFORMANCE_KUBECONFIG` leads to. Without either that column is listed as ignored. See
//! CONTRIBUTING.md.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_debug_implementations
)]

mod cluster;
mod fleet;
mod identities;
mod kube_apiserver;
mod raw_review;
mod scenarios;
mod scene;
mod service;
mod verifiers;
mod version;

use libtest_mimic::Arguments;

/// Scenarios mostly wait for servers.
const AT_A_TIME: usize = 6;

fn main() {
    // rustls may have two providers to choose from, depending on features; `kube` takes the process's.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_A_TIME);
    let fleet = fleet::Fleet::new();
    let conclusion = libtest_mimic::run(&arguments, fleet.trials());
    // Ends the shared servers; `exit` would end the process without it.
    drop(fleet);
    conclusion.exit()
}
