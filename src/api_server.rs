//! Calls to the API server through a [`kube::Client`]: bounded in time, size and number, and sorted by whose fault it was.

use std::{
    error::Error,
    fmt,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use kube::{Client, client::Body};

use crate::{
    api_types::Status,
    clock::Clock,
    error::{VerifyError, VerifyErrorKind},
};

/// Five attempts, as k8s.io/apiserver's webhook clients make them.
const ATTEMPTS: u32 = 5;
/// 500 ms, growing by half, with a fifth of jitter: the same clients' back-off.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const PAUSE_GROWTH: f64 = 1.5;
const PAUSE_JITTER: f64 = 0.2;
/// A `Retry-After` beyond this is not waited for.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Real answers have a few kilobytes.
const BODY_LIMIT: usize = 1024 * 1024;

/// The API server, as one part of this crate sees it.
#[derive(Clone)]
pub(crate) struct ApiServer {
    client: Client,
    pub(crate) clock: Clock,
    /// For a call with all its attempts.
    pub(crate) timeout: Duration,
    purpose: Purpose,
}

/// What the calls are for, and what is missing if they are forbidden: for error messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Purpose {
    pub(crate) call: &'static str,
    pub(crate) when_forbidden: &'static str,
}

impl ApiServer {
    pub(crate) fn new(client: Client, timeout: Duration, purpose: Purpose) -> Self {
        Self { client, clock: Clock::system(), timeout, purpose }
    }

    /// Posts a JSON document and returns the body of a 2xx answer.
    pub(crate) async fn post(&self, path: &str, document: Bytes) -> Result<Bytes, CallError> {
        self.call(Method::POST, path, document).await
    }

    /// Gets a document.
    #[cfg(feature = "jwks")]
    pub(crate) async fn get(&self, path: &str) -> Result<Bytes, CallError> {
        self.call(Method::GET, path, Bytes::new()).await
    }

    async fn call(&self, method: Method, path: &str, document: Bytes) -> Result<Bytes, CallError> {
        let deadline = self.clock.monotonic().checked_add(self.timeout);
        let mut last = None;
        let attempts = async {
            let mut pause = FIRST_PAUSE;
            for attempt in 1.. {
                let failure = match self.attempt(&method, path, document.clone()).await {
                    Ok(body) => return Ok(body),
                    Err(failure) => failure,
                };
                let jittered = pause.mul_f64(1.0 + PAUSE_JITTER * fastrand::f64());
                let wait = failure.retry_after().map_or(jittered, |asked| asked.max(jittered));
                if attempt == ATTEMPTS
                    || !failure.is_worth_a_retry()
                    || !self.leaves_time_for(wait, deadline)
                {
                    return Err(failure);
                }
                tracing::debug!(call = self.purpose.call, attempt, ?wait, %failure, "calling the API server again");
                last = Some(failure);
                self.clock.sleep(wait).await;
                pause = pause.mul_f64(PAUSE_GROWTH);
            }
            Err(Failure::Unanswered)
        };
        let outcome = self.clock.timeout(self.timeout, attempts).await;
        match outcome {
            Some(Ok(body)) => Ok(body),
            Some(Err(failure)) => Err(self.error(failure)),
            None => Err(self.error(last.unwrap_or(Failure::Unanswered))),
        }
    }

    /// Without a deadline, where the time limit is beyond all time, there is.
    fn leaves_time_for(&self, wait: Duration, deadline: Option<Instant>) -> bool {
        wait <= LONGEST_PAUSE
            && deadline.is_none_or(|deadline| self.clock.monotonic() + wait < deadline)
    }

    async fn attempt(
        &self,
        method: &Method,
        path: &str,
        document: Bytes,
    ) -> Result<Bytes, Failure> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            // The keys are served as `application/jwk-set+json` only: asking for anything narrower is answered with 406.
            .header(header::ACCEPT, "*/*")
            .body(Body::from(document))
            .map_err(|error| Failure::Transport(error.into()))?;
        // `send` and not `request`: the latter logs the body of an answer that it cannot read.
        let response =
            self.client.send(request).await.map_err(|error| Failure::Transport(error.into()))?;
        let (head, body) = response.into_parts();
        let body =
            Limited::new(body, BODY_LIMIT).collect().await.map_err(Failure::Transport)?.to_bytes();
        if head.status.is_success() {
            return Ok(body);
        }
        Err(Failure::Status {
            status: head.status,
            retry_after: retry_after(&head.headers),
            message: status_message(&body),
        })
    }

    fn error(&self, failure: Failure) -> CallError {
        CallError { failure, purpose: self.purpose, timeout: self.timeout }
    }
}

impl fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiServer")
            .field("call", &self.purpose.call)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// A call that came to nothing.
#[derive(Debug)]
pub(crate) struct CallError {
    failure: Failure,
    purpose: Purpose,
    timeout: Duration,
}

#[derive(Debug)]
enum Failure {
    /// No connection, a broken one, or an answer beyond the size limit.
    Transport(Box<dyn Error + Send + Sync>),
    /// An answer that is not 2xx.
    Status { status: StatusCode, retry_after: Option<Duration>, message: String },
    /// Nothing, within the time limit.
    Unanswered,
}

impl Failure {
    /// The rule of k8s.io/apiserver's webhook clients, and all of 5xx: connection trouble, 429, and whatever comes with a
    /// `Retry-After`. A 401, 403 or 404 will not go away by asking again.
    fn is_worth_a_retry(&self) -> bool {
        match self {
            Self::Transport(_) => true,
            Self::Status { status, retry_after, .. } => {
                status.is_server_error()
                    || *status == StatusCode::TOO_MANY_REQUESTS
                    || retry_after.is_some()
            }
            Self::Unanswered => false,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::Transport(_) | Self::Unanswered => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transport(error) => {
                write!(f, "{error}")?;
                let mut source = error.source();
                while let Some(error) = source {
                    write!(f, ": {error}")?;
                    source = error.source();
                }
                Ok(())
            }
            Self::Status { status, .. } => write!(f, "it answered {status}"),
            Self::Unanswered => f.write_str("no answer"),
        }
    }
}

impl CallError {
    /// The status of the answer, where there was one.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        match &self.failure {
            Failure::Status { status, .. } => Some(*status),
            Failure::Transport(_) | Failure::Unanswered => None,
        }
    }

    /// The API server's own words, cut to a sane length; empty where there are none.
    pub(crate) fn status_message(&self) -> &str {
        match &self.failure {
            Failure::Status { message, .. } => message,
            Failure::Transport(_) | Failure::Unanswered => "",
        }
    }

    pub(crate) fn kind(&self) -> VerifyErrorKind {
        match &self.failure {
            Failure::Transport(_) => VerifyErrorKind::Unavailable,
            Failure::Unanswered => VerifyErrorKind::Timeout,
            Failure::Status { status, .. } => match *status {
                StatusCode::UNAUTHORIZED => VerifyErrorKind::Unauthenticated,
                StatusCode::FORBIDDEN => VerifyErrorKind::Forbidden,
                StatusCode::TOO_MANY_REQUESTS => VerifyErrorKind::RateLimited,
                status if status.is_server_error() => VerifyErrorKind::Unavailable,
                _ => VerifyErrorKind::InvalidResponse,
            },
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Purpose { call, when_forbidden } = self.purpose;
        match &self.failure {
            Failure::Transport(_) => {
                write!(f, "{call}: the API server cannot be reached: {}", self.failure)
            }
            Failure::Unanswered => {
                write!(f, "{call}: no answer from the API server within {:?}", self.timeout)
            }
            Failure::Status { status, message, .. } => match *status {
                StatusCode::UNAUTHORIZED => write!(
                    f,
                    "{call}: the API server does not accept our own credential (401); \
                     is the token that the kube client sends expired, or for another cluster?"
                ),
                StatusCode::FORBIDDEN => {
                    write!(
                        f,
                        "{call}: the API server forbids it (403); {when_forbidden} [{message}]"
                    )
                }
                _ => write!(f, "{call}: the API server answered {status}"),
            },
        }
    }
}

impl Error for CallError {}

impl From<CallError> for VerifyError {
    fn from(error: CallError) -> Self {
        let verify_error = VerifyError::new(error.kind(), error.to_string());
        match error.failure.retry_after() {
            Some(pause) => verify_error.with_retry_after(pause),
            None => verify_error,
        }
    }
}

/// `Retry-After` in seconds, the only form that Kubernetes sends.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The `message` of a `Status`, cut to a sane length.
fn status_message(body: &[u8]) -> String {
    let message =
        serde_json::from_slice::<Status>(body).map(|status| status.message).unwrap_or_default();
    message.chars().filter(|character| !character.is_control()).take(300).collect()
}
