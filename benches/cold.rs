//! A thousand concurrent requests with one new token: one backend call, and how long all of them
//! wait.
//!
//! `cargo bench --bench cold`

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
    sync::Arc,
    time::{Duration, Instant},
};

use setup::{
    backend::Backend,
    tokens::{AUDIENCE, unsigned},
};
use tokio::{sync::Barrier, task::JoinSet};
use tower_kube_auth::{Authenticator, BearerToken, verdict::Verdict};

const CALLERS: usize = 1000;

async fn round(number: usize) -> (Duration, usize) {
    let backend = Backend::new(Duration::from_millis(1), 40, (0, 0));
    let auth = Authenticator::builder(backend.clone())
        .audience(AUDIENCE)
        .build()
        .expect("the options are good");
    let (token, barrier) =
        (Arc::<str>::from(unsigned(number)), Arc::new(Barrier::new(CALLERS + 1)));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (auth, token, barrier) = (auth.clone(), token.clone(), barrier.clone());
        callers.spawn(async move {
            barrier.wait().await;
            let verdict = auth.authenticate(BearerToken::parse(&token).expect("a token")).await;
            assert!(matches!(verdict, Ok(Verdict::Accept(_))));
        });
    }
    barrier.wait().await;
    let start = Instant::now();
    while let Some(caller) = callers.join_next().await {
        caller.expect("no panic");
    }
    (start.elapsed(), backend.calls())
}

#[tokio::main]
async fn main() {
    let mut times = Vec::new();
    for number in 0..200 {
        let (time, calls) = round(number).await;
        assert_eq!(calls, 1, "one backend call for all");
        times.push(time);
    }
    times.sort();
    println!(
        "{CALLERS} concurrent requests, one new token, backend 1 ms: 1 backend call in each of {} rounds",
        times.len()
    );
    println!("until all are answered: best {:?}, median {:?}", times[0], times[times.len() / 2]);
}
