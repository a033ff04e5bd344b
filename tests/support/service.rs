//! An axum service behind the layer under test that counts the requests its handler receives.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request, Response, StatusCode, header},
    routing::any,
};
use http_body_util::BodyExt;
use tokio::task::JoinHandle;
use tower::ServiceExt;
use tower_kube_auth::{Authenticator, ServiceAccountIdentity};

#[derive(Clone)]
pub struct Service {
    pub router: Router,
    reached: Arc<AtomicUsize>,
}

impl Service {
    /// Wraps a handler that answers with the caller's name, or `nobody`, and the names of the
    /// request's headers.
    pub fn behind(layer: impl FnOnce(Router) -> Router) -> Self {
        let reached = Arc::new(AtomicUsize::new(0));
        let counter = reached.clone();
        let handler = move |request: Request<Body>| async move {
            counter.fetch_add(1, Ordering::SeqCst);
            let mut names: Vec<_> =
                request.headers().keys().map(|name| name.as_str().to_owned()).collect();
            names.sort();
            let caller = request.extensions().get::<ServiceAccountIdentity>();
            let caller = caller.map_or("nobody".into(), ToString::to_string);
            format!("{caller} [{}]", names.join(" "))
        };
        Self { router: layer(Router::new().route("/", any(handler))), reached }
    }

    pub fn new(authenticator: &Authenticator) -> Self {
        let layer = authenticator.layer();
        Self::behind(move |router| router.layer(layer))
    }

    /// Returns how many requests the handler has received.
    pub fn reached(&self) -> usize {
        self.reached.load(Ordering::SeqCst)
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        answer(self.router.clone().oneshot(request).await.unwrap()).await
    }

    pub async fn get(&self, token: &str) -> Answer {
        self.send(bearer(token)).await
    }

    /// Sends a request with this token in a task of its own.
    pub fn spawn_get(&self, token: &str) -> JoinHandle<Answer> {
        let (service, request) = (self.clone(), bearer(token));
        tokio::spawn(async move { service.send(request).await })
    }

    /// Sends `request` and asserts that the handler does not receive it.
    pub async fn blocked(&self, request: Request<Body>) -> Answer {
        let before = self.reached();
        let answer = self.send(request).await;
        assert_eq!(self.reached(), before, "the handler received the request");
        answer
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn challenge(&self) -> Option<&str> {
        self.header(header::WWW_AUTHENTICATE)
    }

    #[track_caller]
    pub fn assert_invalid_token(&self, what: &str) {
        assert_eq!(self.status, StatusCode::UNAUTHORIZED, "{what}");
        let challenge = self.challenge().unwrap();
        assert!(challenge.contains("error=\"invalid_token\""), "{what}: {challenge}");
    }

    #[track_caller]
    pub fn assert_unavailable(&self) {
        assert_eq!((self.status, self.challenge()), (StatusCode::SERVICE_UNAVAILABLE, None));
        assert!(self.header(header::RETRY_AFTER).is_some());
    }
}

pub async fn answer(response: Response<Body>) -> Answer {
    let (head, body) = response.into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Answer { status: head.status, headers: head.headers, body }
}

pub fn bearer(token: &str) -> Request<Body> {
    with_header("authorization", &format!("Bearer {token}"))
}

pub fn with_header(name: &str, value: &str) -> Request<Body> {
    Request::get("/").header(name, value).body(Body::empty()).unwrap()
}

pub fn anonymous() -> Request<Body> {
    Request::get("/").body(Body::empty()).unwrap()
}
