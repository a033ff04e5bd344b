//! The requests that an API server receives from the code under test.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Method, Request};
use kube::Client;
use tower::service_fn;
use tower_kube_auth::ApiServer;

/// Counts by method, path and, in a watch, that it is one.
#[derive(Clone, Default)]
pub(crate) struct RequestCounts(Arc<Mutex<BTreeMap<String, u64>>>);

impl RequestCounts {
    /// Returns the server of `client`, with each attempt of a request counted.
    pub(crate) fn of(client: Client) -> (ApiServer, Self) {
        let counts = Self::default();
        let counting = counts.clone();
        let server = ApiServer::from_service(service_fn(move |request: Request<Bytes>| {
            counting.count(&request);
            let client = client.clone();
            async move { client.send(request.map(Into::into)).await }
        }));
        (server, counts)
    }

    fn count(&self, request: &Request<Bytes>) {
        let (method, uri) = (request.method(), request.uri());
        let query = uri.query().unwrap_or_default();
        let kind = if query.contains("watch=true") { " (watch)" } else { "" };
        let shape = format!("{method} {}{kind}", uri.path());
        *self.0.lock().expect("no panic").entry(shape).or_default() += 1;
    }

    /// Returns the counts, and starts again from zero.
    pub(crate) fn take(&self) -> Counts {
        Counts(std::mem::take(&mut *self.0.lock().expect("no panic")))
    }
}

pub(crate) struct Counts(BTreeMap<String, u64>);

impl Counts {
    pub(crate) fn token_reviews(&self) -> u64 {
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        self.0.get(&format!("{} {path}", Method::POST)).copied().unwrap_or(0)
    }

    /// Returns the requests that neither list nor watch objects nor fetch keys.
    pub(crate) fn others(&self) -> Vec<&str> {
        const EXPECTED: [&str; 6] = [
            "GET /.well-known/openid-configuration",
            "GET /api/v1/pods",
            "GET /api/v1/pods (watch)",
            "GET /api/v1/serviceaccounts",
            "GET /api/v1/serviceaccounts (watch)",
            "GET /openid/v1/jwks",
        ];
        self.0.keys().map(String::as_str).filter(|shape| !EXPECTED.contains(shape)).collect()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("  none");
        }
        let lines: Vec<_> =
            self.0.iter().map(|(shape, count)| format!("{count:>6} {shape}")).collect();
        f.write_str(&lines.join("\n"))
    }
}
