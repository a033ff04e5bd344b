//! A verifier that does what its test says, and an axum service that counts who reached it.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request, Response, StatusCode, header},
    routing::get,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http_body_util::BodyExt;
use tower::ServiceExt;
use tower_kube_auth::{
    Authenticator, BearerToken, ServiceAccountIdentity, Verifier,
    audience::Audiences,
    authenticator::AuthenticatorBuilder,
    error::{VerifyError, VerifyErrorKind},
    identity::UserInfo,
    verdict::{Acceptance, RejectReason, Verdict},
};

type Script = dyn Fn(String) -> Pin<Box<dyn Future<Output = Result<Verdict, VerifyError>> + Send>>
    + Send
    + Sync;

#[derive(Clone)]
pub struct Scripted {
    script: Arc<Script>,
    calls: Arc<AtomicUsize>,
}

impl Scripted {
    /// Runs `script` with the token's text for each verification.
    pub fn new<F, Fut>(script: F) -> Self
    where
        F: Fn(String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Verdict, VerifyError>> + Send + 'static,
    {
        crate::leaks::watch();
        Self { script: Arc::new(move |token| Box::pin(script(token))), calls: Arc::default() }
    }

    pub fn accepting() -> Self {
        Self::new(async |_| Ok(accept()))
    }

    pub fn rejecting(reason: RejectReason) -> Self {
        Self::new(move |_| async move { Ok(Verdict::Reject(reason)) })
    }

    pub fn failing() -> Self {
        Self::new(async |_| {
            Err(VerifyError::new(VerifyErrorKind::Unavailable, "the backend is down"))
        })
    }

    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    pub fn builder(&self) -> AuthenticatorBuilder {
        Authenticator::builder(self.clone()).audience("api")
    }

    pub fn authenticator(&self) -> Authenticator {
        self.builder().build().unwrap()
    }
}

impl Verifier for Scripted {
    async fn verify(&self, token: BearerToken<'_>, _: &Audiences) -> Result<Verdict, VerifyError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        (self.script)(token.expose_secret().to_owned()).await
    }
}

pub fn accept() -> Verdict {
    accept_named("sa")
}

pub fn accept_named(name: &str) -> Verdict {
    let user = UserInfo::service_account("ns", name, "uid-1");
    let audiences = Audiences::new(["api"]).unwrap();
    Verdict::Accept(Acceptance::from_user_info(user, &audiences, ["api"], None, None).unwrap())
}

/// A token of the right shape for audience `api`, different for each `name`.
pub fn token(name: &str) -> String {
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let claims = format!(r#"{{"aud":["api"],"jti":"{name}","padding":"0123456789"}}"#);
    format!("{}.{}.c2lnbmF0dXJl", encode(r#"{"alg":"RS256","kid":"some-key-id"}"#), encode(&claims))
}

/// A service with one handler, and how often that was reached.
#[derive(Clone)]
pub struct Service {
    pub router: Router,
    reached: Arc<AtomicUsize>,
}

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
}

impl Service {
    /// The handler answers with the caller's name, or `nobody`, and with the names of the request's headers.
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
        Self { router: layer(Router::new().route("/", get(handler))), reached }
    }

    pub fn new(authenticator: &Authenticator) -> Self {
        let layer = authenticator.layer();
        Self::behind(move |router| router.layer(layer))
    }

    pub fn reached(&self) -> usize {
        self.reached.load(Ordering::SeqCst)
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        answer(self.router.clone().oneshot(request).await.unwrap()).await
    }

    pub async fn get(&self, token: &str) -> Answer {
        self.send(bearer(token)).await
    }

    /// Sends and asserts that the handler was not reached.
    pub async fn refused(&self, request: Request<Body>) -> Answer {
        let before = self.reached();
        let answer = self.send(request).await;
        assert_eq!(self.reached(), before, "the handler was reached");
        answer
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
