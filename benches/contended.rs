//! The hit path on several threads, beside a computation that shares nothing and so shows how the
//! machine itself scales.
//!
//! `cargo bench --bench contended`

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a bench reads the clock, prints, and panics on a failed expectation"
)]

mod setup;

use std::{
    hint::black_box,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use axum::http::HeaderValue;
use setup::{
    contest::compare,
    hits::{call, request, warm_service},
    requests::shuffled,
    tokens::unsigned,
};

const ROUND: Duration = Duration::from_millis(15);
const ROUNDS: usize = 120;
const THREADS: [usize; 3] = [1, 2, 4];

/// Returns the operations per second of all threads together.
fn throughput<W: FnMut()>(threads: usize, worker: impl Fn(usize) -> W + Sync) -> f64 {
    let barrier = Barrier::new(threads);
    let run = |thread| {
        let mut work = worker(thread);
        barrier.wait();
        let (start, mut done) = (Instant::now(), 0_u32);
        while start.elapsed() < ROUND {
            for _ in 0..100 {
                work();
            }
            done += 100;
        }
        (start, Instant::now(), done)
    };
    let run = &run;
    let runs: Vec<_> = thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        running.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    // From the first start to the last end, because with more threads than cores not all run at
    // once.
    let start = runs.iter().map(|(start, ..)| *start).min().expect("a thread");
    let end = runs.iter().map(|(_, end, _)| *end).max().expect("a thread");
    runs.iter().map(|(.., done)| f64::from(*done)).sum::<f64>() / (end - start).as_secs_f64()
}

fn hits(threads: usize, credentials: &[HeaderValue]) -> f64 {
    let service = warm_service(credentials);
    throughput(threads, |thread| {
        let mut service = service.clone();
        let mut next = credentials.iter().cycle().skip(thread * 311 % credentials.len());
        // Separate bytes for each thread, because connections do not share buffers.
        move || {
            let arrived = HeaderValue::from_bytes(next.next().expect("a cycle").as_bytes())
                .expect("a header");
            assert!(call(&mut service, request(&arrived)));
        }
    })
}

fn alone(threads: usize) -> f64 {
    throughput(threads, |thread| {
        let mut state = thread as u64;
        move || {
            for _ in 0..300 {
                state = black_box(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
            }
        }
    })
}

fn main() {
    let (hot, thousand) = (shuffled(1, unsigned), shuffled(1000, unsigned));
    let names = ["nothing shared", "one hot token", "1 000 tokens"];
    let mut best = [[0_f64; THREADS.len()]; 3];
    for _ in 0..ROUNDS {
        for (column, threads) in THREADS.into_iter().enumerate() {
            for (row, figure) in [alone(threads), hits(threads, &hot), hits(threads, &thousand)]
                .into_iter()
                .enumerate()
            {
                best[row][column] = best[row][column].max(figure);
            }
        }
    }
    println!(
        "million operations per second, best of {ROUNDS}\n{:<20}{:>12}{:>12}{:>12}",
        "", "1 thread", "2 threads", "4 threads"
    );
    for (name, figures) in names.iter().zip(best) {
        println!(
            "{name:<20}{:>12.3}{:>12.3}{:>12.3}",
            figures[0] / 1e6,
            figures[1] / 1e6,
            figures[2] / 1e6
        );
    }
    println!(
        "   the machine scales by {:.2} for two threads that share nothing",
        best[0][1] / best[0][0]
    );
    compare("two threads / one, one hot token", best[1][1] / best[1][0], ">=", 1.8);
    compare("two threads / one, 1 000 tokens", best[2][1] / best[2][0], ">=", 1.8);
}
