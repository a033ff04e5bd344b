//! What an API server may send, and how often it is asked.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use http::StatusCode;
use http_body::Frame;

use super::*;

const MIB: usize = 1024 * 1024;
const LIST: &str = r#"{"metadata": {"resourceVersion": "7"}, "items": null}"#;

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

/// Watches an API server that answers like this, whether it is asked for a watch.
fn watching(
    answer: impl Fn(bool) -> Response<Chunks> + Clone + Send + Sync + 'static,
) -> (ManualClock, LiveObjects) {
    let time = ManualClock::new();
    let server = ApiServer::from_service(tower::service_fn(move |request: Request<Bytes>| {
        let is_watch = request.uri().query().unwrap().contains("watch=true");
        std::future::ready(Ok::<_, Infallible>(answer(is_watch)))
    }));
    let live = LiveObjects::builder(server).clock(time.clock()).build().unwrap();
    (time, live)
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

#[tokio::test]
async fn a_page_without_an_end_is_not_read_to_its_end() {
    const CHUNK: &[u8] = &[b' '; MIB];
    let (_time, live) = watching(|_| body([CHUNK; 80]));
    let failure = failure_of(&live).await;
    assert!(failure.contains("has more than 67108864 bytes"), "{failure}");
}

#[tokio::test]
async fn an_event_without_an_end_is_not_read_to_its_end() {
    const CHUNK: &[u8] = &[b' '; MIB];
    let (_time, live) = watching(|is_watch| match is_watch {
        true => body([CHUNK; 6]),
        false => body([LIST.as_bytes()]),
    });
    let failure = failure_of(&live).await;
    assert!(failure.contains("a line of the response has more than 4194304 bytes"), "{failure}");
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
