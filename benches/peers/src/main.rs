//! The same request through tower-kube-auth, its peers, and a hand-written cache.
//!
//! `cargo run --release` in this folder prints the table and writes `table.md` and
//! `docs/benchmarks.svg`, the chart in BENCHMARKS.md.

mod chart;
mod contestants;
mod loopback;
mod tokens;

use std::time::{Duration, Instant};

use contestants::Contestant;
use tokens::Issuer;

const TURN: usize = 50;
const BUDGET: Duration = Duration::from_secs(12);

/// The measurements of one contestant.
pub struct Row {
    name: &'static str,
    verifies: &'static str,
    /// Nanoseconds that the layer and its extractor add to a request: the tenth percentile.
    added: f64,
    /// Requests per second over loopback, as a fraction of those of the bare router.
    throughput: f64,
}

async fn check(contestant: &mut Contestant, issuer: &Issuer) {
    assert_eq!(
        contestant.send(&issuer.good).await,
        200,
        "{} accepts the valid token",
        contestant.name
    );
    if contestant.verifies != contestants::NOTHING {
        for (what, bad) in issuer.bad() {
            let status = contestant.send(&bad).await;
            assert!((400..500).contains(&status), "{} answers {status} to {what}", contestant.name);
        }
        println!("{}: accepts the valid token, rejects the invalid ones", contestant.name);
    }
    assert_eq!(contestant.send(&issuer.good).await, 200);
}

/// Returns the nanoseconds for a request of each contestant. They take turns, so that noise affects
/// all of them alike.
async fn measure(contestants: &mut [Contestant], issuer: &Issuer) -> Vec<f64> {
    let mut turns = vec![Vec::new(); contestants.len()];
    let start = Instant::now();
    while start.elapsed() < BUDGET {
        for (contestant, turns) in contestants.iter_mut().zip(&mut turns) {
            turns.push(contestant.turn(&issuer.good, TURN).await.as_nanos() as f64 / TURN as f64);
        }
    }
    let tenth = |turns: &mut Vec<f64>| {
        turns.sort_by(f64::total_cmp);
        turns[turns.len() / 10]
    };
    turns.iter_mut().map(tenth).collect()
}

#[tokio::main]
async fn main() {
    let issuer = Issuer::start().await;
    let mut contestants = contestants::all(&issuer).await;
    for contestant in &mut contestants {
        check(contestant, &issuer).await;
    }
    let times = measure(&mut contestants, &issuer).await;
    let throughputs = loopback::throughputs(&contestants, &issuer.good).await;
    let rows: Vec<Row> = contestants
        .iter()
        .zip(&times)
        .zip(&throughputs)
        .filter(|((contestant, _), _)| contestant.verifies != contestants::NOTHING)
        .map(|((contestant, time), throughput)| Row {
            name: contestant.name,
            verifies: contestant.verifies,
            added: time - times[contestant.bare],
            throughput: throughput / throughputs[contestant.bare],
        })
        .collect();
    let ours =
        rows.iter().find(|row| row.name == contestants::OURS).map_or(f64::NAN, |row| row.added);
    let mut table = String::from(
        "| | verifies by | added to a request | × tower-kube-auth | loopback throughput, of bare |\n|---|---|--:|--:|--:|\n",
    );
    for Row { name, verifies, added, throughput } in &rows {
        let (micros, times, percent) = (added / 1e3, added / ours, throughput * 100.0);
        table +=
            &format!("| {name} | {verifies} | {micros:.2} µs | {times:.1} | {percent:.0} % |\n");
    }
    println!("\n{table}");
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::write(folder.join("table.md"), &table).expect("the folder can be written to");
    std::fs::write(folder.join("../../docs/benchmarks.svg"), chart::svg(&rows))
        .expect("the folder can be written to");
}
