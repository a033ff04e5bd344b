//! A generator in place of an API server: lists of many Pods, and a watch of their changes.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::{Body, Bytes};
use http::{Request, Response};
use http_body::Frame;
use tokio::sync::Notify;
use tower::service_fn;
use tower_kube_auth::ApiServer;

const PAGE: usize = 500;

/// Returns the UID of an object of a token, as in [`claims`](super::tokens::claims).
fn uid(kind: usize, number: usize) -> String {
    format!("{kind:08x}-5d1c-4c6b-9b35-{number:012x}")
}

/// The Pods of the tokens of [`claims`](super::tokens::claims) from number 0 on, and the
/// ServiceAccount of the first one.
#[derive(Clone)]
pub struct PodGenerator {
    pods: usize,
    /// What the watch of Pods sends, once `start` is notified.
    events: Arc<[Bytes]>,
    start: Arc<Notify>,
}

impl PodGenerator {
    pub fn new(pods: usize) -> Self {
        Self { pods, events: Arc::default(), start: Arc::default() }
    }

    /// Adds changes: of ten, eight update a Pod, one deletes a Pod, and one makes a new one.
    #[must_use]
    pub fn with_events(self, count: usize) -> Self {
        let event = |number: usize| {
            let (kind, pod) = match number % 10 {
                0 => ("DELETED", number / 10),
                1 => ("ADDED", self.pods + number / 10),
                _ => ("MODIFIED", self.pods / 2 + number % (self.pods / 2)),
            };
            let object = pod_metadata(pod, 8 + number);
            Bytes::from(format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n"))
        };
        Self { events: (0..count).map(event).collect(), ..self }
    }

    /// Lets the watch send its events.
    pub fn send_events(&self) {
        self.start.notify_one();
    }

    pub fn api_server(&self) -> ApiServer {
        let this = self.clone();
        ApiServer::from_service(service_fn(move |request| {
            let this = this.clone();
            async move { Ok::<_, Infallible>(this.answer(&request).await) }
        }))
    }

    async fn answer(&self, request: &Request<Bytes>) -> Response<Body> {
        let query = request.uri().query().expect("a query");
        let is_of_pods = request.uri().path() == "/api/v1/pods";
        if query.contains("watch=true") {
            if is_of_pods {
                self.start.notified().await;
            }
            let events = if is_of_pods { self.events.clone() } else { Arc::default() };
            return Response::new(Body::new(Events { events, next: 0 }));
        }
        let after = |(_, token): (_, &str)| token.parse().expect("a number");
        let first = query.split_once("continue=").map_or(0, after);
        Response::new(Body::from(if is_of_pods { self.page(first) } else { service_accounts() }))
    }

    fn page(&self, first: usize) -> String {
        let last = (first + PAGE).min(self.pods);
        let next = if last < self.pods { last.to_string() } else { String::new() };
        let items: Vec<_> = (first..last).map(|number| pod_metadata(number, 7)).collect();
        let items = items.join(",");
        format!(
            r#"{{"kind":"PodList","metadata":{{"resourceVersion":"7","continue":"{next}"}},"items":[{items}]}}"#
        )
    }
}

fn service_accounts() -> String {
    let uid = uid(4, 0);
    format!(
        r#"{{"kind":"ServiceAccountList","metadata":{{"resourceVersion":"7"}},"items":[
        {{"metadata":{{"name":"checkout","namespace":"shop","uid":"{uid}","resourceVersion":"7"}}}}]}}"#
    )
}

/// Returns metadata with labels and `managedFields`, about 1.6 kB.
fn pod_metadata(number: usize, version: usize) -> String {
    let fields = r#""f:x":{".":{},"f:y":{}},"#.repeat(50);
    let uid = uid(3, number);
    let name = format!("checkout-7d9f6b5c4d-{number:05}");
    format!(
        r#"{{"kind":"PartialObjectMetadata","metadata":{{"name":"{name}","namespace":"shop","uid":"{uid}","resourceVersion":"{version}","labels":{{"app":"checkout"}},"managedFields":[{{{fields}"z":0}}]}}}}"#
    )
}

/// A watch that sends its events without a pause, and stays open.
struct Events {
    events: Arc<[Bytes]>,
    next: usize,
}

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(event) = self.events.get(self.next).cloned() else { return Poll::Pending };
        self.next += 1;
        Poll::Ready(Some(Ok(Frame::data(event))))
    }
}
