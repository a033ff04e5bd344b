//! The memory of a watched object and the time to list, measured with 100 000 Pods from a generator.
//!
//! `cargo bench --bench live_objects`

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

use std::{convert::Infallible, fmt::Write as _, future::pending, time::Instant};

use axum::body::{Body, Bytes};
use http::{Request, Response};
use setup::contest::compare;
use tower::service_fn;
use tower_kube_auth::{ApiServer, LiveObjects};

const OBJECTS: usize = 100_000;
const PAGE: usize = 500;

fn main() {
    let mut kept = None;
    let used = allocation_counter::measure(|| {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let began = Instant::now();
        let live_objects = runtime.block_on(async {
            let server = ApiServer::from_service(service_fn(answer));
            let live_objects = LiveObjects::builder(server).build().expect("the options are good");
            live_objects.synced().await;
            live_objects
        });
        println!("{OBJECTS} Pods listed in {:.0?}", began.elapsed());
        assert_eq!(live_objects.state()[1].objects, OBJECTS);
        kept = Some((runtime, live_objects));
    });
    println!("at most {:.1} MB during the list", used.bytes_max as f64 / 1e6);
    let each = used.bytes_current as f64 / OBJECTS as f64;
    compare("bytes for each watched object", each, "<=", 128.0);
    drop(kept);
}

/// Answers lists: of Pods with as many as there are, of ServiceAccounts with none. Watches wait.
async fn answer(request: Request<Bytes>) -> Result<Response<Body>, Infallible> {
    let query = request.uri().query().expect("a query");
    if query.contains("watch=true") {
        return pending().await;
    }
    if request.uri().path() != "/api/v1/pods" {
        let list = r#"{"metadata":{"resourceVersion":"7"},"items":[]}"#;
        return Ok(Response::new(Body::from(list)));
    }
    let first =
        query.split_once("continue=").map_or(0, |(_, token)| token.parse().expect("a number"));
    Ok(Response::new(Body::from(page(first))))
}

/// Returns a page of metadata with labels and `managedFields`, about 1.6 kB an object.
fn page(first: usize) -> String {
    let last = first + PAGE;
    let next = if last < OBJECTS { last.to_string() } else { String::new() };
    let mut page =
        format!(r#"{{"metadata":{{"resourceVersion":"7","continue":"{next}"}},"items":["#);
    let fields = r#""f:x":{".":{},"f:y":{}},"#.repeat(50);
    for number in first..last {
        let comma = if number == first { "" } else { "," };
        let written = write!(
            page,
            r#"{comma}{{"kind":"PartialObjectMetadata","metadata":{{"name":"checkout-6d4cf56db6-{number}",
            "namespace":"shop-{}","uid":"{number:08x}-0000-4000-8000-000000000000",
            "resourceVersion":"{number}","labels":{{"app":"checkout"}},"managedFields":[{{{fields}"z":0}}]}}}}"#,
            number % 100,
        );
        written.expect("memory");
    }
    page.push_str("]}");
    page
}
