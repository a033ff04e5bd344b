//! The service behind `/readyz`.

use std::{
    convert::Infallible,
    fmt,
    future::{Future, ready},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::{HeaderValue, Request, Response, StatusCode, header};
use tokio::runtime::Handle;
use tower_service::Service;

use crate::{
    authenticator::SelfCheck,
    lock::lock,
    readiness::{NeedState, Readiness},
    single_flight::{Flights, Follower, Joined},
};

/// For how long a result answers requests.
const DEFAULT_TTL: Duration = Duration::from_secs(5);

/// A check that takes longer than its own time limit is on a runtime that nothing drives any more.
const GIVE_UP_AFTER: Duration = SelfCheck::TIMEOUT.saturating_add(Duration::from_secs(1));

/// A Tower service that answers a readiness probe with the result of a [`SelfCheck`]: 200 if the
/// service is ready, 503 if not. With axum, it is the service of a route.
///
/// A result is served for 5 s. The next request starts one check in the background and gets the
/// last result meanwhile; only the first requests wait, for at most 16 s. So a probe's answer may be
/// as old as the probe before it, and requests, however many, cannot flood the API server.
///
/// A check runs on the Tokio runtime of the request that starts it. If it has not ended after 16 s,
/// because nothing drives that runtime any more, the next request starts another one.
///
/// [`Readiness::is_ready`] decides. An outage of the API server keeps a service unready until it
/// was ready once, and never makes it unready again. A missing right does.
///
/// The body is `ok`, or, if the service is not ready or the request has `?verbose`, a line for each
/// need, as in `/readyz` of Kubernetes. Anybody may read it, so it has no reasons; those are logged
/// when the service becomes unready.
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use axum::{Router, body::Body, http::Request};
/// use tower::ServiceExt;
/// use tower_kube_auth::{
///     Authenticator, TokenReviewVerifier, authenticator::SelfCheck, server::Readyz,
///     testing::Cluster,
/// };
///
/// let cluster = Cluster::start().await?;
/// let verifier = TokenReviewVerifier::new(cluster.kube_client()?);
/// let auth = Authenticator::builder(verifier).audience("orders").build()?;
/// let app: Router = Router::new().route_service("/readyz", Readyz::new(SelfCheck::new(&auth)));
///
/// let response = app.oneshot(Request::get("/readyz").body(Body::empty())?).await?;
/// assert_eq!(response.status(), 200);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Readyz {
    shared: Arc<Shared>,
    ttl: Duration,
}

/// The future of the first result, or the reason why there is none.
type FirstResult = Pin<Box<dyn Future<Output = Result<Last, &'static str>> + Send>>;

struct Shared {
    check: SelfCheck,
    last: Mutex<Option<Last>>,
    /// When the latest check began. Locked before `flights`, so that both change together.
    began: Mutex<Option<Instant>>,
    flights: Arc<Flights<(), Arc<Last>>>,
}

#[derive(Clone)]
struct Last {
    began: Instant,
    at: Instant,
    readiness: Arc<Readiness>,
    is_ready: bool,
    been_ready: bool,
}

impl Readyz {
    /// Returns the service. Clones share the last result.
    #[must_use]
    pub fn new(check: SelfCheck) -> Self {
        let (last, began, flights) = (Mutex::default(), Mutex::default(), Flights::new());
        let shared = Arc::new(Shared { check, last, began, flights });
        Self { shared, ttl: DEFAULT_TTL }
    }

    /// Sets for how long a result answers requests. Defaults to 5 s; at least 1 s.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl.max(Duration::from_secs(1));
        self
    }

    /// Returns the last result, or the future of the first one.
    fn result(&self) -> Result<Last, FirstResult> {
        let shared = &self.shared;
        let last = lock(&shared.last).clone();
        let clock = shared.check.clock();
        let now = clock.monotonic();
        if let Some(last) = &last
            && now.saturating_duration_since(last.at) < self.ttl
        {
            return Ok(last.clone());
        }
        let mut follower = shared.follow(now);
        if let Some(last) = last {
            return Ok(last);
        }
        let clock = clock.clone();
        Err(Box::pin(async move {
            match clock.timeout(GIVE_UP_AFTER, follower.outcome()).await {
                Some(Some(first)) => Ok(Last::clone(&first)),
                Some(None) => Err("the check was ended with its runtime"),
                None => Err("the check did not end in time"),
            }
        }))
    }
}

impl Shared {
    /// Follows the check under way, or starts one if there is none that may still end.
    fn follow(self: &Arc<Self>, now: Instant) -> Follower<(), Arc<Last>> {
        let mut began = lock(&self.began);
        let may_end =
            began.is_some_and(|began| now.saturating_duration_since(began) < GIVE_UP_AFTER);
        let leader = loop {
            match self.flights.join(()) {
                Joined::Leader(leader) => break leader,
                Joined::Follower(follower) if may_end => return follower,
                Joined::Follower(follower) => follower.give_up(),
            }
        };
        *began = Some(now);
        drop(began);
        let follower = leader.follower();
        // Without a runtime nobody leads, and followers get no outcome.
        if let Ok(runtime) = Handle::try_current() {
            let shared = Arc::clone(self);
            runtime.spawn(async move {
                let last = shared.run(now).await;
                leader.complete(Arc::new(last));
            });
        }
        follower
    }

    async fn run(&self, began: Instant) -> Last {
        let readiness = self.check.run().await;
        let mut last = lock(&self.last);
        // A check that was given up may end after a later one.
        if let Some(later) = last.as_ref().filter(|last| last.began > began) {
            return later.clone();
        }
        let (was_ready, been_ready) =
            last.as_ref().map_or((true, false), |last| (last.is_ready, last.been_ready));
        let is_ready = readiness.is_ready(been_ready);
        if was_ready && !is_ready {
            for need in readiness.needs.iter().filter(|need| need.state != NeedState::Met) {
                tracing::warn!(%need, "not ready");
            }
        } else if !was_ready && is_ready {
            tracing::info!("ready");
        }
        let result = Last {
            began,
            at: self.check.clock().monotonic(),
            readiness: Arc::new(readiness),
            is_ready,
            been_ready: been_ready || is_ready,
        };
        *last = Some(result.clone());
        result
    }
}

impl<B> Service<Request<B>> for Readyz {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let is_verbose = request.uri().query().is_some_and(|query| {
            query.split('&').any(|pair| pair.split('=').next() == Some("verbose"))
        });
        match self.result() {
            Ok(last) => Box::pin(ready(Ok(respond(Ok(&last), is_verbose)))),
            Err(first) => Box::pin(async move {
                let first = first.await;
                Ok(respond(first.as_ref().map_err(|why| *why), is_verbose))
            }),
        }
    }
}

fn respond(last: Result<&Last, &str>, is_verbose: bool) -> Response<String> {
    let is_ready = last.is_ok_and(|last| last.is_ready);
    let body = match last {
        Ok(_) if is_ready && !is_verbose => "ok".to_owned(),
        Ok(last) => lines(&last.readiness, is_ready),
        Err(why) => format!("{why}\n"),
    };
    let mut response = Response::new(body);
    if !is_ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    let headers = response.headers_mut();
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, text);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn lines(readiness: &Readiness, is_ready: bool) -> String {
    let mut body = String::new();
    for need in &readiness.needs {
        let (mark, state) = match need.state {
            NeedState::Met => ('+', "ok"),
            NeedState::Degraded => ('!', "not met, not required"),
            NeedState::Unknown => ('?', "unknown: reason withheld"),
            NeedState::Missing => ('-', "failed: reason withheld"),
        };
        body.push_str(&format!("[{mark}]{} {state}\n", need.name));
    }
    body.push_str(if is_ready { "readyz check passed\n" } else { "readyz check failed\n" });
    body
}

impl fmt::Debug for Readyz {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readyz").field("ttl", &self.ttl).finish_non_exhaustive()
    }
}
