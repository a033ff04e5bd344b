//! The service that the callers call.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use axum::{Router, body::Body, routing::get};
use http::{Request, StatusCode, header};
use tower::ServiceExt as _;
use tower_kube_auth::Authenticator;

use crate::fixture::Outcome;

pub(crate) const AUDIENCE: &str = "orders";

/// A router behind the layer, with the number of requests that its handler has received.
#[derive(Clone)]
pub(crate) struct Service {
    router: Router,
    authenticator: Authenticator,
    reached: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Accepted,
    /// 401 with the error code `invalid_token`.
    InvalidToken,
}

impl Service {
    pub(crate) fn new(authenticator: Authenticator) -> Self {
        let reached = Arc::new(AtomicUsize::new(0));
        let counter = reached.clone();
        let handler = async move || {
            counter.fetch_add(1, SeqCst);
        };
        let router = Router::new().route("/", get(handler)).layer(authenticator.layer());
        Self { router, authenticator, reached }
    }

    /// Fails on every answer that is neither an acceptance nor a rejection of the token.
    pub(crate) async fn ask(&self, token: &str) -> Outcome<Answer> {
        let request = Request::get("/").header(header::AUTHORIZATION, format!("Bearer {token}"));
        let response = self.router.clone().oneshot(request.body(Body::empty())?).await?;
        let challenge = response.headers().get(header::WWW_AUTHENTICATE);
        let challenge = challenge.map(|value| value.to_str()).transpose()?.unwrap_or_default();
        match response.status() {
            StatusCode::OK => Ok(Answer::Accepted),
            StatusCode::UNAUTHORIZED if challenge.contains("error=\"invalid_token\"") => {
                Ok(Answer::InvalidToken)
            }
            status => Err(format!("unexpected: {status} {challenge}").into()),
        }
    }

    /// Fails unless the token is accepted.
    pub(crate) async fn accepts(&self, token: &str) -> Outcome {
        match self.ask(token).await? {
            Answer::Accepted => Ok(()),
            Answer::InvalidToken => Err("a good token is rejected".into()),
        }
    }

    /// Returns how many requests the handler has received.
    pub(crate) fn reached(&self) -> usize {
        self.reached.load(SeqCst)
    }

    /// Returns how many verifications were made. Cache hits are none.
    pub(crate) fn verifications(&self) -> u64 {
        let metrics = self.authenticator.metrics();
        metrics.accepted + metrics.rejected + metrics.undecided
    }
}
