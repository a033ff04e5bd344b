//! Full load, with keys that rotate, Pods that are deleted and an API server that is restarted all the time: every answer
//! is held against an oracle. No wrong acceptance, no wrong refusal, and undecided only where the server was down.
//!
//! It runs for `SOAK_SECONDS`, against the kube-apiserver in `KUBEBUILDER_ASSETS` or else the embedded cluster; without
//! the former variable it is ignored. See CONTRIBUTING.md.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_debug_implementations
)]

#[path = "../conformance/cluster.rs"]
#[allow(dead_code, reason = "the conformance suite needs the rest")]
mod cluster;
#[path = "../conformance/kube_apiserver/mod.rs"]
mod kube_apiserver;
#[path = "../conformance/raw_review.rs"]
mod raw_review;
#[path = "../conformance/scene.rs"]
#[allow(dead_code, reason = "the conformance suite needs the rest")]
mod scene;
#[path = "../conformance/verifiers.rs"]
#[allow(dead_code, reason = "the conformance suite needs the rest")]
mod verifiers;
#[path = "../conformance/version.rs"]
#[allow(dead_code, reason = "the conformance suite needs the rest")]
mod version;

mod load;
mod modes;
mod oracle;
mod population;
mod report;
mod witness;
mod world;

use std::{
    env,
    path::PathBuf,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use libtest_mimic::{Arguments, Failed, Trial};
use tower_kube_auth::testing::Release;

use crate::{
    cluster::{Column, Options, TestCluster},
    load::Load,
    scene::Outcome,
    witness::Witness,
    world::World,
};

const HINT: &str =
    "SOAK_SECONDS=600 KUBEBUILDER_ASSETS=… cargo test --release --test soak; see CONTRIBUTING.md";
/// Below that no bound of the oracle is ever reached, and it would look on and say nothing.
const SHORTEST: Duration = Duration::from_secs(45);

fn main() {
    // rustls may have two providers to choose from, depending on features; `kube` takes the process's.
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

    let world = World::new(cluster).await?;
    let modes = modes::all(world.client())?;
    let load = Load::start(&modes, world.population(), world.oracle());
    let witness = Witness::start(world.client(), world.population());
    // A failure here says more than what it made of the load.
    let events = world.live(length).await;
    load.over.store(true, SeqCst);
    let report = load.end().await?;
    println!("{report}\nevents: {}\n{}", world.events(), witness.end().await?);
    events?;
    report.verdict()
}

/// The same choice as the conformance suite's, save that a cluster which is not ours is not soaked.
fn column() -> Column {
    let assets =
        env::var_os("KUBEBUILDER_ASSETS").filter(|value| !value.is_empty()).map(PathBuf::from);
    assets.map_or(Column::Embedded(Release::default()), Column::Assets)
}
