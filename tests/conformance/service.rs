//! An axum service behind the layer.

use axum::{Router, body::Body, routing::get};
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;
use tower_kube_auth::{Authenticator, ServiceAccountIdentity, Verifier};

pub(crate) struct Service {
    router: Router,
}

/// A response with its whole body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) challenge: Option<String>,
    pub(crate) retry_after: Option<String>,
    pub(crate) body: String,
}

impl Service {
    /// Creates a service that answers with the caller's username.
    pub(crate) fn new(authenticator: &Authenticator) -> Self {
        async fn whoami(caller: ServiceAccountIdentity) -> String {
            caller.username().to_owned()
        }
        Self { router: Router::new().route("/", get(whoami)).layer(authenticator.layer()) }
    }

    /// Creates a service that calls `verifier` for every request.
    pub(crate) fn uncached(verifier: impl Verifier, audience: &str) -> Self {
        let builder = Authenticator::builder(verifier).audience(audience);
        let zero = std::time::Duration::ZERO;
        Self::new(&builder.cache_ttl(zero).reject_ttl(zero).build().expect("an authenticator"))
    }

    pub(crate) async fn ask(&self, authorization: &str) -> Answer {
        self.answer(Request::get("/").header(header::AUTHORIZATION, authorization)).await
    }

    pub(crate) async fn ask_without_credential(&self) -> Answer {
        self.answer(Request::get("/")).await
    }

    async fn answer(&self, request: http::request::Builder) -> Answer {
        let request = request.body(Body::empty()).expect("a request");
        let answering = self.router.clone().oneshot(request);
        let response: Response<Body> = answering.await.expect("an infallible service");
        let (head, body) = response.into_parts();
        let header =
            |name| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (challenge, retry_after) =
            (header(header::WWW_AUTHENTICATE), header(header::RETRY_AFTER));
        let body = body.collect().await.expect("a body").to_bytes();
        Answer {
            status: head.status,
            challenge,
            retry_after,
            body: String::from_utf8_lossy(&body).into_owned(),
        }
    }
}
