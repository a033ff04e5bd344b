//! What an API server may send, and how often it is asked.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use http::{StatusCode, Uri};
use http_body::Frame;

use super::*;

const MIB: usize = 1024 * 1024;
const CHUNK: &[u8] = &[b' '; MIB];
const LIST: &str = r#"{"kind": "PodList", "metadata": {"resourceVersion": "7"}, "items": null}"#;

/// A body of these chunks that ends after the last one.
struct Chunks(VecDeque<Bytes>);

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|chunk| Ok(Frame::data(chunk))))
    }
}

fn body(chunks: impl IntoIterator<Item = &'static [u8]>) -> Response<Chunks> {
    Response::new(Chunks(chunks.into_iter().map(Bytes::from_static).collect()))
}

fn status(status: StatusCode) -> Response<Chunks> {
    let mut response = body([]);
    *response.status_mut() = status;
    response
}

/// Watches an API server that answers like this, by the URI of the request.
fn watching_by_uri(
    answer: impl Fn(&Uri) -> Response<Chunks> + Clone + Send + Sync + 'static,
) -> (ManualClock, LiveObjects) {
    let time = ManualClock::new();
    let server = ApiServer::from_service(tower::service_fn(move |request: Request<Bytes>| {
        std::future::ready(Ok::<_, Infallible>(answer(request.uri())))
    }));
    let live = LiveObjects::builder(server).clock(time.clock()).build().unwrap();
    (time, live)
}

/// Watches an API server that answers like this, whether it is asked for a watch.
fn watching(
    answer: impl Fn(bool) -> Response<Chunks> + Clone + Send + Sync + 'static,
) -> (ManualClock, LiveObjects) {
    watching_by_uri(move |uri| answer(is_watch(uri)))
}

fn is_watch(uri: &Uri) -> bool {
    uri.query().unwrap().contains("watch=true")
}

fn is_of_pods(uri: &Uri) -> bool {
    uri.path() == "/api/v1/pods"
}

fn parameter<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    let mut pairs = uri.query().unwrap().split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

async fn failure_of(live: &LiveObjects) -> String {
    let failing = async {
        loop {
            if let Some(failure) = live.state().remove(1).last_failure {
                return failure;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, failing).await.expect("a failure")
}

/// Objects whose list is larger than all that is read at once: some of 3 MiB, then small ones.
const LARGE: usize = 24;
const ALL: usize = LARGE + 1500;

/// As many Pods as `limit` asks for, from the one that `continue` names.
fn page_of_large_pods(uri: &Uri) -> Response<Chunks> {
    let limit: usize = parameter(uri, "limit").unwrap().parse().unwrap();
    let first: usize = parameter(uri, "continue").map_or(0, |number| number.parse().unwrap());
    let last = ALL.min(first + limit);
    let next = if last < ALL { last.to_string() } else { String::new() };
    let mut chunks = VecDeque::from([Bytes::from(format!(
        r#"{{"kind": "PodList", "metadata": {{"resourceVersion": "7", "continue": "{next}"}}, "items": ["#
    ))]);
    for number in first..last {
        let comma = if number == first { "" } else { "," };
        chunks.push_back(Bytes::from(format!(
            r#"{comma}{{"metadata": {{"name": "p-{number}", "namespace": "shop", "uid": "u-{number}","#
        )));
        let padding = if number < LARGE { 3 } else { 0 };
        chunks.extend(std::iter::repeat_n(Bytes::from_static(CHUNK), padding));
        chunks.push_back(Bytes::from_static(br#""resourceVersion": "7"}}"#));
    }
    chunks.push_back(Bytes::from_static(b"]}"));
    Response::new(Chunks(chunks))
}

#[tokio::test]
async fn a_page_that_is_too_large_is_read_in_smaller_ones() {
    let pages = Arc::new(AtomicU64::new(0));
    let counted = pages.clone();
    let (_time, live) = watching_by_uri(move |uri| match (is_watch(uri), is_of_pods(uri)) {
        (true, _) => body([]),
        (false, false) => body([LIST.as_bytes()]),
        (false, true) => {
            counted.fetch_add(1, Ordering::Relaxed);
            page_of_large_pods(uri)
        }
    });
    until_lists(&live, 1).await;
    let pages = pages.load(Ordering::Relaxed);
    let is_live = |number: &usize| {
        let (name, uid) = (format!("p-{number}"), format!("u-{number}"));
        live.liveness(Pod, Some("shop"), &name, &uid) == Liveness::Live
    };
    assert_eq!((0..ALL).filter(is_live).count(), ALL);
    // Seven are too large, down to 7 objects; 8 have 3 large objects; the rest grows up to 500.
    assert!((20..=28).contains(&pages), "{pages} requests");
}

#[tokio::test]
async fn a_page_of_one_object_without_an_end_is_not_read_to_its_end() {
    let pages = Arc::new(AtomicU64::new(0));
    let counted = pages.clone();
    let (_time, live) = watching_by_uri(move |uri| {
        counted.fetch_add(is_of_pods(uri).into(), Ordering::Relaxed);
        body([CHUNK; 80])
    });
    let failure = failure_of(&live).await;
    assert!(failure.contains("a page of one object has more than 16777216 bytes"), "{failure}");
    assert_eq!(pages.load(Ordering::Relaxed), 9, "from 500 objects down to one");
}

#[tokio::test]
async fn a_list_has_a_kind_and_items() {
    const METADATA: &str = r#""metadata": {"resourceVersion": "7"}"#;
    for list in [
        format!(r#"{{{METADATA}, "items": []}}"#),
        format!(r#"{{"kind": "PodList", {METADATA}}}"#),
        format!(r#"{{"kind": "Pod", {METADATA}, "items": []}}"#),
        format!(r#"{{"kind": "Status", {METADATA}, "status": "Success"}}"#),
    ] {
        let sent = Bytes::from(list.clone());
        let (_time, live) = watching(move |_| Response::new(Chunks([sent.clone()].into())));
        let failure = failure_of(&live).await;
        assert!(failure.contains("it sent no list"), "{list}: {failure}");
        assert_eq!(live.state()[1].lists, 0, "{list}");
    }
    for (kind, items) in [("PartialObjectMetadataList", "[]"), ("PodList", "null")] {
        let list = Bytes::from(format!(r#"{{"kind": "{kind}", {METADATA}, "items": {items}}}"#));
        let (_time, live) = watching(move |_| Response::new(Chunks([list.clone()].into())));
        until_lists(&live, 1).await;
    }
}

#[tokio::test]
async fn the_largest_event_that_an_object_can_cause_is_applied() {
    const EVENT: [&[u8]; 2] = [
        br#"{"type": "ADDED", "object": {"metadata": {"name": "a", "uid": "a", "#,
        b"\"resourceVersion\": \"9\"}}}\n",
    ];
    let (_time, live) = watching(|is_watch| match is_watch {
        true => body([EVENT[0]].into_iter().chain([CHUNK; 11]).chain([EVENT[1]])),
        false => body([LIST.as_bytes()]),
    });
    let failure = failure_of(&live).await;
    assert!(failure.contains("the connection was closed"), "{failure}");
    assert_eq!(live.state()[1].events, 1);
}

#[tokio::test]
async fn an_event_without_an_end_is_not_read_to_its_end() {
    let (_time, live) = watching(|is_watch| match is_watch {
        true => body([CHUNK; 18]),
        false => body([LIST.as_bytes()]),
    });
    let failure = failure_of(&live).await;
    assert!(failure.contains("a line of the response has more than 16777216 bytes"), "{failure}");
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn watch() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn lines_about_pods(&self) -> Vec<String> {
        let log = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        log.lines().filter(|line| line.contains("watching pods")).map(str::to_owned).collect()
    }
}

/// Answers each request about Pods by its number.
fn watching_pods(
    answer: impl Fn(u64) -> Response<Chunks> + Clone + Send + Sync + 'static,
) -> (ManualClock, LiveObjects, Arc<AtomicU64>) {
    let requests = Arc::new(AtomicU64::new(0));
    let counted = requests.clone();
    let (time, live) = watching_by_uri(move |uri| match is_of_pods(uri) {
        true => answer(counted.fetch_add(1, Ordering::Relaxed) + 1),
        false => body([]),
    });
    (time, live, requests)
}

/// Lets time pass until so many requests about Pods were answered.
async fn until_requests(time: &ManualClock, requests: &AtomicU64, expected: u64) {
    let asking = async {
        loop {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            if requests.load(Ordering::Relaxed) >= expected {
                return;
            }
            time.next_wake().iter().for_each(|wake| time.advance(*wake));
        }
    };
    assert!(tokio::time::timeout(PATIENCE, asking).await.is_ok(), "{requests:?}");
}

#[tokio::test]
async fn each_class_of_failure_is_one_warning_in_a_series() {
    let (log, _logging) = Log::watch();
    let (time, live, requests) = watching_pods(|number| match number {
        1..=3 => status(StatusCode::SERVICE_UNAVAILABLE),
        4 => status(StatusCode::FORBIDDEN),
        5..=10 => status(StatusCode::SERVICE_UNAVAILABLE),
        _ => status(StatusCode::FORBIDDEN),
    });
    until_requests(&time, &requests, 4).await;
    let lines = log.lines_about_pods();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].contains("answered 503"), "{lines:#?}");
    assert!(lines[1].contains("the verbs `list` and `watch` on `pods`"), "{lines:#?}");
    until_requests(&time, &requests, 20).await;
    assert_eq!(log.lines_about_pods().len(), 2, "{:#?}", log.lines_about_pods());
    drop(live);
}

#[tokio::test]
async fn a_version_that_is_forgotten_again_and_again_is_a_failure() {
    let (log, _logging) = Log::watch();
    let (time, live, requests) = watching_pods(|number| match number {
        1 => status(StatusCode::SERVICE_UNAVAILABLE),
        _ => status(StatusCode::GONE),
    });
    until_requests(&time, &requests, 2).await;
    assert_eq!(live.state()[1].phase, WatchPhase::Listing, "once is common");
    assert_eq!(log.lines_about_pods(), [""; 0]);
    until_requests(&time, &requests, 3).await;
    let watch = live.state().remove(1);
    assert_eq!(watch.phase, WatchPhase::Broken);
    let failure = watch.last_failure.unwrap();
    assert!(failure.contains("forgets versions (410)"), "{failure}");
    until_requests(&time, &requests, 10).await;
    let lines = log.lines_about_pods();
    assert!(lines.len() == 1 && lines[0].contains("forgets versions (410)"), "{lines:#?}");
}

#[tokio::test]
async fn a_list_that_goes_round_in_a_circle_is_a_failure() {
    const PAGE: &str = r#"{"kind": "PodList", "metadata": {"resourceVersion": "7", "continue": "x"}, "items": []}"#;
    let (_time, live) = watching(|_| body([PAGE.as_bytes()]));
    let failure = failure_of(&live).await;
    assert!(failure.contains("a page that continues with itself"), "{failure}");
}

#[tokio::test]
async fn versions_that_go_back_lead_to_a_new_list() {
    const EVENTS: &str = "\
        {\"type\": \"ADDED\", \"object\": {\"metadata\": {\"uid\": \"a\", \"resourceVersion\": \"9\"}}}\n\
        {\"type\": \"ADDED\", \"object\": {\"metadata\": {\"uid\": \"b\", \"resourceVersion\": \"8\"}}}\n";
    let (time, live) = watching(|is_watch| match is_watch {
        true => body([EVENTS.as_bytes()]),
        false => body([LIST.as_bytes()]),
    });
    let failure = failure_of(&live).await;
    assert!(failure.contains("resource versions went back"), "{failure}");
    assert_eq!(live.state()[1].events, 1, "the second one is not applied");
    time.advance(Duration::from_secs(1));
    until_lists(&live, 2).await;
}

#[tokio::test]
async fn a_retry_after_is_waited_for_up_to_a_minute() {
    for (asked, waited) in [("20", 20), ("3600", 60)] {
        let (time, live) = watching(move |_| {
            let mut response = body([]);
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            response.headers_mut().insert("retry-after", asked.parse().unwrap());
            response
        });
        failure_of(&live).await;
        let pauses = async {
            while time.next_wake() != Some(Duration::from_secs(waited)) {
                tokio::task::yield_now().await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, pauses).await;
        assert!(in_time.is_ok(), "{asked}: {:?}", time.next_wake());
    }
}

async fn until_lists(live: &LiveObjects, lists: u64) {
    let listed = async {
        while live.state()[1].lists < lists {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, listed).await.is_ok(), "{:#?}", live.state());
}

#[tokio::test]
async fn a_slow_list_is_as_old_as_its_request() {
    let time = ManualClock::new();
    let cluster = Cluster::builder().clock(time.clock()).start().await.unwrap();
    let delay = Duration::from_secs(2);
    cluster.set_fault(Endpoint::List, Fault::Delay(delay));
    let client = cluster.admin_client().unwrap();
    let live = LiveObjects::builder(client).clock(time.clock()).build().unwrap();
    let requested = time.clock().wall();
    cluster.wait_for_calls(Endpoint::List, 2).await;
    time.advance(delay);
    until_lists(&live, 1).await;
    assert_eq!(live.state()[1].last_sign_of_life, Some(requested));
    cluster.clear_faults();
}
