//! The heap memory of a cached identity, measured with 100 000 accepted tokens.
//!
//! `cargo bench --bench memory`

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
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use setup::{
    contest::compare,
    tokens::{AUDIENCE, Describing, unsigned},
};
use tower_kube_auth::{Authenticator, BearerToken, verdict::Verdict};

const ENTRIES: usize = 100_000;

fn main() {
    let mut kept = None;
    let used = allocation_counter::measure(|| {
        let builder = Authenticator::builder(Describing::default())
            .audience(AUDIENCE)
            .cache_capacity(2 * ENTRIES as u64);
        let auth =
            builder.cache_ttl(Duration::from_secs(3600)).build().expect("the options are good");
        for number in 0..ENTRIES {
            let token = unsigned(number);
            let verdict = pin!(auth.authenticate(BearerToken::parse(&token).expect("a token")));
            let verdict = verdict.poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(verdict, Poll::Ready(Ok(Verdict::Accept(_)))));
        }
        kept = Some(auth);
    });
    let each = used.bytes_current as f64 / ENTRIES as f64;
    println!(
        "{ENTRIES} identities bound to a Pod and a Node: {:.1} MB",
        used.bytes_current as f64 / 1e6
    );
    println!(
        "allocations for each, most of them freed again: {:.1}",
        used.count_total as f64 / ENTRIES as f64
    );
    compare("bytes for each cached identity", each, "<=", 1024.0);
    drop(kept);
}
