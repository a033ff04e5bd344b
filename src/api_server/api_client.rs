//! Calls to the API server: bounded in time, size and number of attempts.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, header};
use tracing::Instrument;

use super::{
    clock_skew::clock_skew,
    error::{ApiServerError, Failure, Purpose},
    response_body::ResponseBody,
    server::ApiServer,
};
use crate::{api_types::Status, backoff::Backoff, clock::Clock, telemetry};

/// Attempts of a call, as in k8s.io/apiserver's webhook clients.
const ATTEMPTS: u32 = 5;
/// Pauses between attempts, as in the same clients.
const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(500),
    growth: 1.5,
    longest: LONGEST_PAUSE,
    jitter: 1.0..1.2,
};
/// Upper bound for a `Retry-After` that is waited for.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Lower bound for the time limit of one attempt. A dead connection of the client's pool then costs
/// one attempt instead of the call.
const SHORTEST_ATTEMPT: Duration = Duration::from_secs(3);
/// Upper bound for a response body that is read whole, in bytes. Real ones have a few kilobytes.
const BODY_LIMIT: usize = 1024 * 1024;
/// Upper bound for a message of the API server, in characters.
const LONGEST_MESSAGE: usize = 300;

/// A client of the API server for one purpose.
#[derive(Clone, Debug)]
pub(crate) struct ApiClient {
    server: ApiServer,
    pub(crate) clock: Clock,
    /// The time limit of a call with all its attempts.
    pub(crate) timeout: Duration,
    purpose: Purpose,
}

impl ApiClient {
    pub(crate) fn new(server: ApiServer, timeout: Duration, purpose: Purpose) -> Self {
        Self { server, clock: Clock::system(), timeout, purpose }
    }

    /// Returns a client with the same server, clock and limits for another purpose.
    pub(super) fn with_purpose(&self, purpose: Purpose) -> Self {
        Self { purpose, ..self.clone() }
    }

    /// Posts a JSON document and returns the body of a 2xx response.
    pub(crate) async fn post(&self, path: &str, document: Bytes) -> Result<Bytes, ApiServerError> {
        Ok(self.post_for_response(path, document).await?.into_body())
    }

    /// Posts a JSON document and returns a 2xx response.
    pub(super) async fn post_for_response(
        &self,
        path: &str,
        document: Bytes,
    ) -> Result<Response<Bytes>, ApiServerError> {
        self.call(Method::POST, path, document).await
    }

    /// Gets a document.
    #[cfg(feature = "jwks")]
    pub(crate) async fn get(&self, path: &str) -> Result<Bytes, ApiServerError> {
        Ok(self.call(Method::GET, path, Bytes::new()).await?.into_body())
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        document: Bytes,
    ) -> Result<Response<Bytes>, ApiServerError> {
        let deadline = self.clock.monotonic().checked_add(self.timeout);
        // The cause that is reported if the time limit ends a later attempt.
        let mut last = Failure::Timeout;
        let attempts = async {
            let mut attempt = 1;
            loop {
                let span = telemetry::api_call_span(&method, path, attempt);
                let attempted = self.attempt(&method, path, document.clone());
                let failure = match attempted.instrument(span.clone()).await {
                    Ok(response) => {
                        telemetry::record_status(&span, response.status());
                        return Ok(response);
                    }
                    Err(failure) => failure,
                };
                if let Failure::Status { status, .. } = &failure {
                    telemetry::record_status(&span, *status);
                }
                telemetry::record_error(&span, failure.kind());
                drop(span);
                let pause = BACKOFF.pause(attempt);
                let wait = failure.retry_after().map_or(pause, |asked| asked.max(pause));
                if attempt == ATTEMPTS
                    || !failure.is_retryable()
                    || !self.leaves_time_for(wait, deadline)
                {
                    return Err(failure);
                }
                // Not the failure's text: an error of a user's service could quote the request.
                let (call, kind) = (self.purpose.call, failure.kind());
                tracing::debug!(call, attempt, ?wait, ?kind, "calling the API server again");
                last = failure;
                self.clock.sleep(wait).await;
                attempt += 1;
            }
        };
        let outcome = self.clock.timeout(self.timeout, attempts).await;
        outcome.unwrap_or(Err(last)).map_err(|failure| self.error(failure))
    }

    /// Gets a document as a stream, in one attempt. The time limit covers the head of a 2xx
    /// response only.
    #[cfg(feature = "watch")]
    pub(crate) async fn open(
        &self,
        path: &str,
        accept: &str,
    ) -> Result<ResponseBody, ApiServerError> {
        let request = Request::get(path).header(header::ACCEPT, accept).body(Bytes::new());
        let opening = async {
            let request = request.map_err(|error| Failure::Transport(error.into()))?;
            let response = self.server.send(request).await.map_err(Failure::Transport)?;
            if response.status().is_success() {
                return Ok(response.into_body());
            }
            Err(status_failure(&read(response).await?))
        };
        let outcome = self.clock.timeout(self.timeout, opening).await;
        outcome.unwrap_or(Err(Failure::Timeout)).map_err(|failure| self.error(failure))
    }

    fn error(&self, failure: Failure) -> ApiServerError {
        ApiServerError { failure, purpose: self.purpose, timeout: self.timeout }
    }

    /// A time limit that overflows the clock is no limit: there is no deadline.
    fn leaves_time_for(&self, wait: Duration, deadline: Option<Instant>) -> bool {
        wait <= LONGEST_PAUSE
            && deadline.is_none_or(|deadline| self.clock.monotonic() + wait < deadline)
    }

    async fn attempt(
        &self,
        method: &Method,
        path: &str,
        document: Bytes,
    ) -> Result<Response<Bytes>, Failure> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            // The keys are served as `application/jwk-set+json` only; anything narrower is a 406.
            .header(header::ACCEPT, "*/*")
            .body(document)
            .map_err(|error| Failure::Transport(error.into()))?;
        let limit = (self.timeout / 10 * 3).max(SHORTEST_ATTEMPT);
        let sent = self.clock.wall();
        let mut call = telemetry::ApiCall::begin(self.purpose.stage, &self.clock);
        let response = self
            .clock
            .timeout(limit, async {
                let response = self.server.send(request).await.map_err(Failure::Transport)?;
                read(response).await
            })
            .await
            .ok_or(Failure::Timeout)??;
        call.answered(response.status());
        telemetry::clock_skew(|| clock_skew(response.headers(), sent, self.clock.wall()));
        if response.status().is_success() {
            return Ok(response);
        }
        Err(status_failure(&response))
    }
}

/// Reads the body of `response`, up to the limit.
async fn read(response: Response<ResponseBody>) -> Result<Response<Bytes>, Failure> {
    let (head, body) = response.into_parts();
    let body = body.read(BODY_LIMIT).await.map_err(Failure::Transport)?;
    Ok(Response::from_parts(head, body))
}

fn status_failure(response: &Response<Bytes>) -> Failure {
    Failure::Status {
        status: response.status(),
        retry_after: retry_after(response.headers()),
        message: status_message(response.body()),
    }
}

/// Reads `Retry-After` in seconds, the only form that Kubernetes sends.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Reads the `message` of a `Status`, without control characters.
fn status_message(body: &[u8]) -> String {
    let message =
        serde_json::from_slice::<Status>(body).map(|status| status.message).unwrap_or_default();
    message.chars().filter(|character| !character.is_control()).take(LONGEST_MESSAGE).collect()
}
