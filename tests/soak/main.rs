//! Full load while keys rotate, Pods are deleted and the API server restarts. An oracle checks
//! every answer: no wrong acceptance, no wrong rejection, and undecided only while the server is
//! down.
//!
//! It runs for `SOAK_SECONDS`, and is ignored without it, against the kube-apiserver in
//! `KUBEBUILDER_ASSETS` or else the embedded cluster. See CONTRIBUTING.md.

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
#[path = "../conformance/raw_review.rs"]
mod raw_review;
#[path = "../conformance/verifiers.rs"]
#[allow(dead_code, reason = "used by the conformance suite")]
mod verifiers;
#[path = "../conformance/version.rs"]
#[allow(dead_code, reason = "used by the conformance suite")]
mod version;

mod baseline_probe;
mod chaos;
mod facts;
mod load;
mod oracle;
mod report;
mod services;
mod token_pool;
mod watch_chaos;
mod watch_faults;
mod watch_history;

use std::{
    env,
    path::PathBuf,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use libtest_mimic::{Arguments, Failed, Trial};
use tower_kube_auth::{LiveObjects, live_objects::WatchState, testing::Release};

use crate::{
    baseline_probe::BaselineProbe,
    chaos::Chaos,
    cluster::{Column, Options, TestCluster},
    fixture::Outcome,
    load::Load,
};

const HINT: &str =
    "SOAK_SECONDS=600 KUBEBUILDER_ASSETS=… cargo test --release --test soak; see CONTRIBUTING.md";
/// Upper bound for the first lists.
const SYNCED_WITHIN: Duration = Duration::from_secs(30);
/// In a shorter run no time bound of the oracle is reached, so it would check nothing.
const SHORTEST: Duration = Duration::from_secs(45);

fn main() {
    // Features may enable two rustls providers. `kube` uses the process default.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let arguments = Arguments::from_args();
    let seconds = env::var("SOAK_SECONDS").ok();
    if seconds.is_none() && !arguments.list {
        eprintln!("\nthe soak is ignored; to run it: {HINT}");
    }
    let ignored = seconds.is_none();
    let trial = Trial::test("soak", move || run(seconds.as_deref()));
    libtest_mimic::run(&arguments, vec![trial.with_ignored_flag(ignored)]).exit()
}

fn run(seconds: Option<&str>) -> Result<(), Failed> {
    let seconds = seconds.ok_or_else(|| format!("SOAK_SECONDS is not set: {HINT}"))?;
    let length = Duration::from_secs(
        seconds.parse().map_err(|_| format!("SOAK_SECONDS={seconds}: not a number"))?,
    );
    if length < SHORTEST {
        return Err(format!("SOAK_SECONDS={seconds}: give at least {}", SHORTEST.as_secs()).into());
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(soak(length)).map_err(|error| Failed::from(error.to_string()))
}

async fn soak(length: Duration) -> Outcome {
    let column = column();
    let cluster = Arc::new(TestCluster::start(&column, Options::default()).await?);
    let name = if matches!(column, Column::Assets(_)) {
        "kube-apiserver"
    } else {
        "the embedded cluster, as"
    };
    println!("\nsoaking {name} {} for {length:?}", cluster.version());

    let chaos = Chaos::new(cluster).await?;
    let live_objects =
        LiveObjects::builder(chaos.watch_faults().api_server(chaos.client())).build()?;
    let is_synced = tokio::time::timeout(SYNCED_WITHIN, live_objects.synced()).await.is_ok();
    if !is_synced {
        return Err(format!("not synced: {:?}", live_objects.state()).into());
    }
    let services = services::all(chaos.client(), &live_objects)?;
    let load = Load::start(&services, chaos.pool(), chaos.oracle());
    let probe = BaselineProbe::start(chaos.client(), chaos.pool());
    // Returned after the report: a failure here explains the answers in it.
    let events = chaos.run(length).await;
    load.over.store(true, SeqCst);
    let report = load.end().await?;
    let (baseline, oracle) = (probe.end().await?, chaos.oracle());
    println!("{report}\nevents: {}\n{baseline}\n{oracle}", chaos.events());
    println!("the watches were answered 410 {} times", chaos.watch_faults().expired());
    for watch in live_objects.state() {
        let WatchState { resource, events, lists, .. } = watch;
        println!("  the watch of {resource}: {events} events, {lists} lists");
    }
    events?;
    report.verdict()
}

/// Returns the cluster to soak: never an external one.
fn column() -> Column {
    let assets =
        env::var_os("KUBEBUILDER_ASSETS").filter(|value| !value.is_empty()).map(PathBuf::from);
    assets.map_or(Column::Embedded(Release::default()), Column::Assets)
}
