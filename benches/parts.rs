//! The parts of a cache hit and their alternatives. ARCHITECTURE.md has the decisions.
//!
//! `cargo bench --bench parts`

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
    hash::{BuildHasherDefault, Hasher},
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use aws_lc_rs::{digest, hmac};
use axum::http::{Extensions, HeaderMap, header};
use criterion::{Criterion, criterion_group, criterion_main};
use highway::{HighwayHash, HighwayHasher, Key};
use setup::{requests::bearer, tokens::unsigned};
use tower_kube_auth::{BearerToken, inspect::UnverifiedToken};

type Digest = [u64; 4];

/// Uses the digest as its own hash, as the cache does.
#[derive(Default)]
struct FirstWord(u64);

impl Hasher for FirstWord {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(word) = bytes.first_chunk() {
            self.0 = u64::from_ne_bytes(*word);
        }
    }
}

fn token(criterion: &mut Criterion) {
    let text = unsigned(1);
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, bearer(&text));
    let mut group = criterion.benchmark_group("token");
    group.bench_function("find the header", |bencher| {
        bencher.iter(|| black_box(&headers).get(header::AUTHORIZATION).cloned())
    });
    group.bench_function("parse: token68", |bencher| {
        bencher.iter(|| BearerToken::parse(black_box(&text)).is_ok())
    });
    group.bench_function("inspect, unverified", |bencher| {
        bencher.iter(|| UnverifiedToken::decode(black_box(&text)).is_ok())
    });
}

fn digests(criterion: &mut Criterion) {
    let text = unsigned(1);
    let token = text.as_bytes();
    let mut group = criterion.benchmark_group("digest");
    group.bench_function("HighwayHash-256", |bencher| {
        bencher.iter(|| {
            let mut hasher = HighwayHasher::new(Key([1, 2, 3, 4]));
            hasher.append(black_box(token));
            hasher.finalize256()
        });
    });
    let key = hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]);
    group.bench_function("HMAC-SHA256", |bencher| {
        bencher.iter(|| hmac::sign(&key, black_box(token)))
    });
    group.bench_function("SHA-256, no key", |bencher| {
        bencher.iter(|| digest::digest(&digest::SHA256, black_box(token)))
    });
}

fn maps(criterion: &mut Criterion) {
    const KEYS: usize = 1000;
    let keys: Vec<Digest> = (0..KEYS).map(|_| [(); 4].map(|()| fastrand::u64(..))).collect();
    let map = papaya::HashMap::<Digest, Arc<str>, BuildHasherDefault<FirstWord>>::default();
    let moka = moka::sync::Cache::<Digest, Arc<str>>::builder()
        .max_capacity(10_000)
        .time_to_live(Duration::from_secs(600))
        .build_with_hasher(BuildHasherDefault::<FirstWord>::default());
    for key in &keys {
        map.pin().insert(*key, "identity".into());
        moka.insert(*key, "identity".into());
    }
    let mut group = criterion.benchmark_group("map");
    for (which, spread) in [("one key", 1), ("1 000 keys", KEYS)] {
        let mut next = (0..KEYS).cycle().map(|position| keys[position * 617 % KEYS % spread]);
        group.bench_function(format!("papaya, {which}"), |bencher| {
            bencher.iter(|| map.pin().get(&next.next().unwrap_or_default()).cloned());
        });
        group.bench_function(format!("moka sync, {which}"), |bencher| {
            bencher.iter(|| moka.get(&next.next().unwrap_or_default()));
        });
    }
}

fn rest(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rest");
    let (until, expiry) =
        (Instant::now() + Duration::from_secs(3600), SystemTime::now() + Duration::from_secs(3600));
    group.bench_function("lifetime: both clocks", |bencher| {
        bencher.iter(|| Instant::now() < black_box(until) && SystemTime::now() < black_box(expiry));
    });
    let identity: Arc<str> = "identity".into();
    group.bench_function("extension: insert an Arc, and drop", |bencher| {
        bencher.iter(|| {
            let mut extensions = Extensions::new();
            extensions.insert(identity.clone());
            extensions
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(30);
    targets = token, digests, maps, rest
}
criterion_main!(benches);
