//! A cache hit in the service alone, without axum. Each figure includes making the request, which
//! the first line shows by itself.
//!
//! `cargo bench --bench hit`

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

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use setup::{
    hits::{call, request, warm_service, zipf},
    requests::shuffled,
    tokens::unsigned,
};

const DRAWS: usize = 1 << 16;

fn hits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hit");
    let hot = shuffled(1, unsigned);
    group.bench_function("the request alone", |bencher| {
        bencher.iter(|| black_box(request(&hot[0])))
    });
    for (name, size, order) in [
        ("one hot token", 1, vec![0; DRAWS]),
        ("1 000 tokens, uniform", 1000, (0..DRAWS).map(|_| fastrand::usize(..1000)).collect()),
        ("10 000 tokens, uniform", 10_000, (0..DRAWS).map(|_| fastrand::usize(..10_000)).collect()),
        ("10 000 tokens, Zipf", 10_000, zipf(10_000, DRAWS)),
    ] {
        let credentials = shuffled(size, unsigned);
        let mut service = warm_service(&credentials);
        let mut order = order.into_iter().cycle();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let position = order.next().unwrap_or_default();
                call(&mut service, request(&credentials[position]))
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3)).sample_size(50);
    targets = hits
}
criterion_main!(benches);
