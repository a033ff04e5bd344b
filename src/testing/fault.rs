//! Fault injection: failures of an API server or of the network in front of it.

use std::{collections::BTreeMap, future::pending, sync::Mutex, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use super::{endpoint::Endpoint, lock::lock, reply::Reply};
use crate::clock::Clock;

/// A failure to inject. See [`Cluster::set_fault`](super::Cluster::set_fault).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Answers with this status code and a Kubernetes `Status` body, without processing the
    /// request.
    Status {
        /// The HTTP status code, such as 429 or 500.
        code: u16,
        /// Seconds for a `Retry-After` header.
        retry_after: Option<u64>,
    },
    /// Answers correctly after this time on the cluster's clock.
    Delay(Duration),
    /// Accepts the request and never answers.
    Hang,
    /// 200 with truncated JSON.
    BrokenJson,
    /// 200 with no body.
    EmptyBody,
    /// 200 with ten megabytes of well-formed JSON.
    HugeBody,
    /// The correct answer, but the connection closes half-way through the body.
    CutConnection,
    /// 200 with this body, as JSON.
    Body(String),
}

#[derive(Default)]
pub(super) struct Faults(Mutex<BTreeMap<Endpoint, (Fault, u64)>>);

impl Faults {
    pub(super) fn set(&self, endpoint: Endpoint, fault: Fault, times: u64) {
        lock(&self.0).insert(endpoint, (fault, times));
    }

    pub(super) fn clear(&self) {
        lock(&self.0).clear();
    }

    /// Returns the fault for the next request, and counts it.
    pub(super) fn take(&self, endpoint: Option<Endpoint>) -> Option<Fault> {
        let mut faults = lock(&self.0);
        let matching = endpoint
            .into_iter()
            .chain([Endpoint::All])
            .find(|endpoint| faults.contains_key(endpoint))?;
        let (fault, left) = faults.get_mut(&matching)?;
        let fault = fault.clone();
        *left -= 1;
        if *left == 0 {
            faults.remove(&matching);
        }
        Some(fault)
    }
}

/// Answers a request with `fault`. `answer` is the correct response.
pub(super) async fn inject(
    fault: Fault,
    clock: &Clock,
    answer: impl Future<Output = Response<Reply>>,
) -> Response<Reply> {
    match fault {
        Fault::Status { code, retry_after } => error_status(code, retry_after),
        Fault::Delay(duration) => {
            clock.sleep(duration).await;
            answer.await
        }
        Fault::Hang => pending().await,
        Fault::BrokenJson => {
            json(Bytes::from_static(br#"{"kind":"TokenReview","status":{"authenticated":tr"#))
        }
        Fault::EmptyBody => json(Bytes::new()),
        Fault::HugeBody => {
            json(Bytes::from(format!("{{\"padding\":\"{}\"}}", "x".repeat(10_000_000))))
        }
        Fault::CutConnection => answer.await.map(Reply::cut),
        Fault::Body(body) => json(Bytes::from(body)),
    }
}

fn error_status(code: u16, retry_after: Option<u64>) -> Response<Reply> {
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let (reason, message) = match code.as_u16() {
        401 => ("Unauthorized", "Unauthorized"),
        403 => ("Forbidden", "forbidden: by a fault of the embedded cluster"),
        404 => ("NotFound", "the server could not find the requested resource"),
        429 => ("TooManyRequests", "Too many requests, please try again later."),
        503 => ("ServiceUnavailable", "apiserver not ready"),
        504 => ("Timeout", "request did not complete within the allotted timeout"),
        _ => ("InternalError", "an error on the server has prevented the request from succeeding"),
    };
    let body = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code.as_u16(),
    });
    let mut response = json(Bytes::from(body.to_string()));
    *response.status_mut() = code;
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn json(body: Bytes) -> Response<Reply> {
    let mut response = Response::new(Reply::whole(body));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_for_two_requests_is_injected_twice() {
        let faults = Faults::default();
        faults.set(Endpoint::Jwks, Fault::Hang, 2);
        faults.set(Endpoint::All, Fault::EmptyBody, u64::MAX);
        assert_eq!(faults.take(Some(Endpoint::Jwks)), Some(Fault::Hang));
        assert_eq!(faults.take(Some(Endpoint::Jwks)), Some(Fault::Hang));
        assert_eq!(faults.take(Some(Endpoint::Jwks)), Some(Fault::EmptyBody));
        assert_eq!(faults.take(None), Some(Fault::EmptyBody));
    }
}
