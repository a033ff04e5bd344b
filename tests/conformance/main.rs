//! The assumptions of this crate about Kubernetes, checked against Kubernetes.
//!
//! Each scenario is one function that runs against each cluster through the same client code: as
//! `embedded::…` and `embedded_1_20::…` against [`tower_kube_auth::testing::Cluster`] in its two
//! releases, and as `kube_apiserver::…` against a real API server. A difference between the two
//! fails the suite. The real API server is started from the programs in the folder
//! `KUBEBUILDER_ASSETS`, or is the one that the kubeconfig in
//! `TOWER_KUBE_AUTH_CONFORMANCE_KUBECONFIG` names. Without either, its scenarios are listed as
//! ignored. See CONTRIBUTING.md.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_debug_implementations
)]

mod cluster;
mod fixture;
mod fleet;
mod identities;
mod kube_apiserver;
mod raw_review;
mod scenarios;
mod service;
mod verifiers;
mod version;

use libtest_mimic::Arguments;

/// Scenarios that run concurrently. They mostly wait for servers.
const AT_A_TIME: usize = 6;

fn main() {
    // Features may enable two rustls providers. `kube` uses the process default.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_A_TIME);
    let fleet = fleet::Fleet::new();
    let conclusion = libtest_mimic::run(&arguments, fleet.trials());
    // Stops the shared servers; `exit` runs no destructors.
    drop(fleet);
    conclusion.exit()
}
