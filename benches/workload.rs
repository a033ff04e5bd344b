//! The workload of Kubernetes' token-cache benchmark (`k8s.io/apiserver`,
//! `pkg/authentication/token/cache`). 90 % of the tokens are accepted, 9 % rejected, and 1 % fail.
//! The backend takes 1 ms and serves 40 calls at once. Acceptances are cached for 4 s, rejections
//! for 0.5 s. Each operation is a random token, and token 0.
//!
//! `cargo bench --bench workload`

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
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use setup::{
    backend::Backend,
    tokens::{AUDIENCE, unsigned},
};
use tokio::task::JoinSet;
use tower_kube_auth::{Authenticator, BearerToken};

const LONG: Duration = Duration::from_secs(3);

async fn run(tokens: &Arc<Vec<String>>, count: usize, parallelism: usize) {
    let backend = Backend::new(Duration::from_millis(1), 40, (9, 1));
    let builder = Authenticator::builder(backend.clone())
        .audience(AUDIENCE)
        .cache_capacity(100_000)
        .reject_capacity(100_000);
    let builder = builder.cache_ttl(Duration::from_secs(4)).reject_ttl(Duration::from_millis(500));
    // The backend limits the calls in flight itself.
    let auth = builder
        .max_in_flight(1024)
        .max_wait(Duration::from_secs(10))
        .build()
        .expect("the options are good");
    let (done, start) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let mut workers = JoinSet::new();
    for _ in 0..parallelism {
        let (auth, tokens, done) = (auth.clone(), tokens.clone(), done.clone());
        workers.spawn(async move {
            while start.elapsed() < LONG {
                for _ in 0..10 {
                    for number in [fastrand::usize(..count), 0] {
                        let _ = auth
                            .authenticate(BearerToken::parse(&tokens[number]).expect("a token"))
                            .await;
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
                tokio::task::yield_now().await;
            }
        });
    }
    while workers.join_next().await.is_some() {}
    let done = done.load(Ordering::Relaxed);
    let (nanoseconds, calls) =
        (start.elapsed().as_nanos() as f64 / done as f64, backend.calls() as f64 / done as f64);
    println!("{count:>8}{parallelism:>13}{nanoseconds:>14.0}{calls:>20.5}");
}

#[tokio::main]
async fn main() {
    let tokens = Arc::new((0..62_500).map(unsigned).collect());
    println!("{:>8}{:>13}{:>14}{:>20}", "tokens", "parallelism", "ns/op", "backend calls/op");
    for count in [100, 2_500, 12_500, 62_500] {
        for parallelism in [1, 16, 256] {
            run(&tokens, count, parallelism).await;
        }
    }
}
