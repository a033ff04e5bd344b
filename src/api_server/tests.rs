use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::Full;
use tower::{ServiceExt, service_fn, util::BoxCloneService};

use super::{
    ApiClient, ApiServer, ApiServerError, ApiServerErrorKind, Purpose, response_body::BoxError,
};
use crate::clock::manual::ManualClock;

const PURPOSE: Purpose =
    Purpose { call: "a call", when_forbidden: "ask for the right", stage: None };

#[derive(Clone, Copy)]
enum Answer {
    Status(u16),
    RetryAfter(u16, &'static str),
    Hang,
    Broken,
}

/// An API server that gives `answers` in turn, the last one from then on, and keeps the requests.
#[derive(Clone)]
struct FaultyApiServer {
    answers: &'static [Answer],
    seen: Arc<Mutex<Vec<Request<Bytes>>>>,
}

impl FaultyApiServer {
    fn new(answers: &'static [Answer]) -> Self {
        Self { answers, seen: Arc::default() }
    }

    /// Its service is one that is not `Sync`.
    fn api_server(&self) -> ApiServer {
        let this = self.clone();
        let service = service_fn(move |request| this.clone().answer(request));
        ApiServer::from_service(BoxCloneService::new(service.map_err(BoxError::from)))
    }

    async fn answer(self, request: Request<Bytes>) -> Result<Response<Full<Bytes>>, BoxError> {
        let call = {
            let mut seen = self.seen.lock().unwrap();
            seen.push(request);
            seen.len()
        };
        let response = Response::builder();
        let response = match self.answers[call.min(self.answers.len()) - 1] {
            Answer::Status(status) => response.status(status),
            Answer::RetryAfter(status, pause) => {
                response.status(status).header(header::RETRY_AFTER, pause)
            }
            Answer::Hang => std::future::pending().await,
            Answer::Broken => return Err("the cable is cut".into()),
        };
        Ok(response.body(Full::from("document")).unwrap())
    }

    fn calls(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// Posts with `timeout`, and returns the outcome and the seconds that passed.
    async fn post(&self, timeout: Duration) -> (Result<Bytes, ApiServerError>, f64) {
        let clock = ManualClock::new();
        let mut client = ApiClient::new(self.api_server(), timeout, PURPOSE);
        client.clock = clock.clock();
        let began = client.clock.monotonic();
        let task = tokio::spawn(async move { client.post("/path", "{}".into()).await });
        while !task.is_finished() {
            tokio::task::yield_now().await;
            if let Some(wake) = clock.next_wake() {
                clock.advance(wake);
            }
        }
        (task.await.unwrap(), (clock.clock().monotonic() - began).as_secs_f64())
    }
}

const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_request_has_path_type_and_body_and_no_host() {
    let fake = FaultyApiServer::new(&[Answer::Status(201)]);
    assert_eq!(fake.post(LIMIT).await.0.unwrap(), "document");
    let seen = fake.seen.lock().unwrap();
    let [request] = &**seen else { panic!("{} requests", seen.len()) };
    assert_eq!((request.method().as_str(), request.uri().to_string()), ("POST", "/path".into()));
    assert_eq!(request.headers()[header::CONTENT_TYPE], "application/json");
    assert_eq!(request.body(), "{}");
}

#[tokio::test]
async fn an_attempt_without_an_answer_ends_after_three_seconds() {
    let fake = FaultyApiServer::new(&[Answer::Hang, Answer::Status(200)]);
    let (outcome, seconds) = fake.post(LIMIT).await;
    assert!(outcome.is_ok());
    assert!((3.5..=3.6).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn a_call_without_an_answer_ends_at_its_time_limit() {
    let fake = FaultyApiServer::new(&[Answer::Hang]);
    let (outcome, seconds) = fake.post(LIMIT).await;
    assert_eq!(outcome.unwrap_err().kind(), ApiServerErrorKind::Timeout);
    assert_eq!((fake.calls(), seconds), (3, 10.0));
}

#[tokio::test]
async fn a_longer_time_limit_allows_longer_attempts() {
    let fake = FaultyApiServer::new(&[Answer::Hang]);
    let (_, seconds) = fake.post(LIMIT * 6).await;
    assert_eq!((fake.calls(), seconds), (4, 60.0));
}

#[tokio::test]
async fn a_time_limit_that_ends_a_retry_reports_the_cause_before_it() {
    let fake =
        FaultyApiServer::new(&[Answer::Hang, Answer::Hang, Answer::Status(503), Answer::Hang]);
    let (outcome, seconds) = fake.post(LIMIT).await;
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ApiServerErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("503"), "{error}");
    assert_eq!((fake.calls(), seconds), (4, 10.0));
}

#[tokio::test]
async fn a_short_retry_after_is_obeyed_and_a_long_one_ends_the_call() {
    let fake = FaultyApiServer::new(&[Answer::RetryAfter(429, "1"), Answer::Status(200)]);
    let (outcome, seconds) = fake.post(LIMIT).await;
    assert_eq!((outcome.is_ok(), seconds), (true, 1.0));

    let fake = FaultyApiServer::new(&[Answer::RetryAfter(429, "30")]);
    let (outcome, seconds) = fake.post(LIMIT).await;
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ApiServerErrorKind::RateLimited);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(30)));
    assert_eq!((fake.calls(), seconds), (1, 0.0));
}

#[tokio::test]
async fn each_status_has_its_kind() {
    use ApiServerErrorKind::*;
    for (status, kind) in [
        (400, InvalidRequest),
        (401, Unauthenticated),
        (403, Forbidden),
        (404, InvalidRequest),
        (409, InvalidRequest),
        (418, InvalidResponse),
        (422, InvalidRequest),
        (429, RateLimited),
        (500, Unavailable),
        (503, Unavailable),
    ] {
        let answers = Box::leak(Box::new([Answer::Status(status)]));
        let error = FaultyApiServer::new(answers).post(LIMIT).await.0.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(error.status().map(|status| status.as_u16()), Some(status));
    }
}

#[tokio::test]
async fn an_error_of_the_service_is_a_broken_connection() {
    let fake = FaultyApiServer::new(&[Answer::Broken]);
    let (outcome, seconds) = fake.post(LIMIT).await;
    let error = outcome.unwrap_err();
    assert_eq!((error.kind(), fake.calls()), (ApiServerErrorKind::Unavailable, 5));
    assert!(error.to_string().contains("the cable is cut"), "{error}");
    assert!(seconds < 5.0, "{seconds}");
}
