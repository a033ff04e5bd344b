//! How soon a caller is rejected after its Pod or ServiceAccount is deleted, and which requests the
//! API server receives from a service whose callers stay the same.
//!
//! It runs against the kube-apiserver in `KUBEBUILDER_ASSETS` or else the embedded cluster, and
//! prints what it measures. A few deletions and seconds by default. See CONTRIBUTING.md.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_debug_implementations
)]

#[path = "../conformance/cluster.rs"]
#[allow(dead_code, reason = "used by the conformance suite")]
mod cluster;
#[path = "../conformance/fixture.rs"]
#[allow(dead_code, reason = "used by the conformance suite")]
mod fixture;
#[path = "../conformance/kube_apiserver/mod.rs"]
mod kube_apiserver;
#[path = "../conformance/verifiers.rs"]
#[allow(dead_code, reason = "used by the conformance suite")]
mod verifiers;
#[path = "../conformance/version.rs"]
#[allow(dead_code, reason = "used by the conformance suite")]
mod version;

mod callers;
mod deletions;
mod latencies;
mod modes;
mod request_counts;
mod service;
mod steady_state;

use std::{env, path::PathBuf, sync::Arc, time::Duration};

use libtest_mimic::{Arguments, Failed, Trial};
use tower_kube_auth::testing::Release;

use crate::{
    cluster::{Column, Options, TestCluster},
    deletions::Pace,
    fixture::{Fixture, Outcome},
    latencies::Latencies,
    modes::Mode,
};

fn main() {
    // Features may enable two rustls providers. `kube` uses the process default.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut arguments = Arguments::from_args();
    // The trials measure times, so they do not share the machine.
    arguments.test_threads = Some(1);
    let trials = vec![
        Trial::test("deletions", || run(deletions)),
        Trial::test("steady_state", || run(steady_state)),
    ];
    libtest_mimic::run(&arguments, trials).exit()
}

/// Measures the deletions in each mode: `REVOCATIONS` of them with a watch, and
/// `REVOCATIONS_BY_TTL` without one, which take about a minute.
async fn deletions(cluster: Arc<TestCluster>) -> Outcome {
    let with_watch = number("REVOCATIONS", 20)?;
    let without_watch = number("REVOCATIONS_BY_TTL", 0)?;
    println!("from the answer to a deletion to the first 401, in ms\n{}", Latencies::HEADING);
    for (mode, times, pace) in [
        (Mode::Live, with_watch, Pace::ONE_BY_ONE),
        (Mode::Live, with_watch, Pace::IN_BURSTS),
        (Mode::WatchedTokenReview, with_watch, Pace::ONE_BY_ONE),
        (Mode::WatchedTokenReview, with_watch, Pace::IN_BURSTS),
        (Mode::TokenReview, without_watch, Pace::ALL_AT_ONCE),
    ] {
        if times > 0 {
            let fixture = Arc::new(Fixture::new(cluster.clone()).await?);
            let latencies = deletions::measure(&fixture, mode, times, pace).await?;
            println!("{latencies} {}, {}", mode.name(), pace.name);
        }
    }
    Ok(())
}

async fn steady_state(cluster: Arc<TestCluster>) -> Outcome {
    let length = Duration::from_secs(number("STEADY_SECONDS", 5)?);
    steady_state::measure(Arc::new(Fixture::new(cluster).await?), length).await
}

/// Runs a trial on a cluster of its own: never an external one.
fn run<F: Future<Output = Outcome>>(
    trial: impl FnOnce(Arc<TestCluster>) -> F,
) -> Result<(), Failed> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let outcome = runtime.block_on(async {
        let assets = env::var_os("KUBEBUILDER_ASSETS").filter(|value| !value.is_empty());
        let (name, column) = match assets {
            Some(folder) => ("kube-apiserver", Column::Assets(PathBuf::from(folder))),
            None => ("the embedded cluster, as", Column::Embedded(Release::default())),
        };
        let cluster = Arc::new(TestCluster::start(&column, Options::default()).await?);
        println!("\non {name} {}", cluster.version());
        trial(cluster).await
    });
    outcome.map_err(|error| Failed::from(error.to_string()))
}

fn number<T: std::str::FromStr>(variable: &str, default: T) -> Outcome<T> {
    match env::var(variable) {
        Ok(text) => text.parse().map_err(|_| format!("{variable}={text}: not a number").into()),
        Err(_) => Ok(default),
    }
}
