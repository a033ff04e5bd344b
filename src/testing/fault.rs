//! Trouble on demand: what an API server, or the network before it, does on a bad day.

use std::{collections::BTreeMap, future::pending, sync::Mutex, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use super::{Cluster, api::Reply, state::lock};
use crate::clock::Clock;

/// A part of the API that can be counted and broken on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Endpoint {
    /// `POST /apis/authentication.k8s.io/v1/tokenreviews`
    TokenReview,
    /// `POST /api/v1/namespaces/{namespace}/serviceaccounts/{name}/token`
    TokenRequest,
    /// `GET /openid/v1/jwks`
    Jwks,
    /// `GET /.well-known/openid-configuration`
    Discovery,
    /// `POST /apis/authorization.k8s.io/v1/subjectaccessreviews`
    SubjectAccessReview,
    /// Every request, those for objects included.
    All,
}

/// What goes wrong. See [`Cluster::set_fault`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Answers with this status code and a Kubernetes `Status` body, and does nothing else.
    Status {
        /// The HTTP status code, such as 429 or 500.
        code: u16,
        /// Seconds for a `Retry-After` header.
        retry_after: Option<u64>,
    },
    /// Answers rightly, after this long on the cluster's clock.
    Delay(Duration),
    /// Takes the request and never answers.
    Hang,
    /// 200 with a body that is cut off in the middle of its JSON.
    BrokenJson,
    /// 200 with no body.
    EmptyBody,
    /// 200 with ten megabytes of well-formed JSON.
    HugeBody,
    /// The right answer, but the connection ends half-way through the body.
    CutConnection,
    /// 200 with this body, as JSON.
    Body(String),
}

/// Faults.
impl Cluster {
    /// Breaks an endpoint until [`clear_faults`](Self::clear_faults), or another fault for the same endpoint.
    ///
    /// A fault strikes before authentication, as trouble in front of the API server does. A fault of a single endpoint
    /// goes before one of [`Endpoint::All`].
    ///
    /// ```
    /// use tower_kube_auth::testing::{Cluster, Endpoint, Fault};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cluster = Cluster::start().await?;
    /// let client = cluster.kube_client()?;
    /// let jwks = || http::Request::get("/openid/v1/jwks").body(Vec::new()).unwrap();
    ///
    /// cluster.set_fault(Endpoint::Jwks, Fault::Status { code: 403, retry_after: None });
    /// assert!(client.request_text(jwks()).await.is_err());
    /// cluster.clear_faults();
    /// assert!(client.request_text(jwks()).await.is_ok());
    /// assert_eq!(cluster.calls(Endpoint::Jwks), 2);
    /// # Ok(()) }
    /// ```
    pub fn set_fault(&self, endpoint: Endpoint, fault: Fault) {
        self.state.faults.set(endpoint, fault, u64::MAX);
    }

    /// Breaks an endpoint for its next `times` requests; later ones are answered rightly again.
    pub fn set_fault_times(&self, endpoint: Endpoint, fault: Fault, times: u64) {
        self.state.faults.set(endpoint, fault, times);
    }

    /// Mends everything. Requests that already hang stay hanging, as they would.
    pub fn clear_faults(&self) {
        lock(&self.state.faults.0).clear();
    }
}

#[derive(Default)]
pub(super) struct Faults(Mutex<BTreeMap<Endpoint, (Fault, u64)>>);

impl Faults {
    fn set(&self, endpoint: Endpoint, fault: Fault, times: u64) {
        lock(&self.0).insert(endpoint, (fault, times));
    }

    pub(super) fn strike(&self, endpoint: Option<Endpoint>) -> Option<Fault> {
        let mut faults = lock(&self.0);
        let struck = endpoint
            .into_iter()
            .chain([Endpoint::All])
            .find(|endpoint| faults.contains_key(endpoint))?;
        let (fault, left) = faults.get_mut(&struck)?;
        let fault = fault.clone();
        *left -= 1;
        if *left == 0 {
            faults.remove(&struck);
        }
        Some(fault)
    }
}

/// Lets `fault` happen to a request that `answer` would answer rightly.
pub(super) async fn suffer(
    fault: Fault,
    clock: &Clock,
    answer: impl Future<Output = Response<Reply>>,
) -> Response<Reply> {
    match fault {
        Fault::Status { code, retry_after } => refused(code, retry_after),
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

fn refused(code: u16, retry_after: Option<u64>) -> Response<Reply> {
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
    fn a_fault_for_two_requests_strikes_twice() {
        let faults = Faults::default();
        faults.set(Endpoint::Jwks, Fault::Hang, 2);
        faults.set(Endpoint::All, Fault::EmptyBody, u64::MAX);
        assert_eq!(faults.strike(Some(Endpoint::Jwks)), Some(Fault::Hang));
        assert_eq!(faults.strike(Some(Endpoint::Jwks)), Some(Fault::Hang));
        assert_eq!(faults.strike(Some(Endpoint::Jwks)), Some(Fault::EmptyBody));
        assert_eq!(faults.strike(None), Some(Fault::EmptyBody));
    }
}
