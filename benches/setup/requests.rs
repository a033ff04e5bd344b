//! Requests into an axum router, without a network.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    http::{HeaderValue, Request, StatusCode, header},
    response::Response,
};
use tower::Service;

/// Returns the header values of these tokens in random order, to defeat prefetching.
pub fn shuffled(count: usize, token: impl Fn(usize) -> String) -> Vec<HeaderValue> {
    let step = (count as f64 * 0.618) as usize | 1;
    let mut values: Vec<_> = (0..count).map(|number| bearer(&token(number))).collect();
    for position in 0..count {
        values.swap(position, (position * step) % count);
    }
    values
}

pub fn bearer(token: &str) -> HeaderValue {
    HeaderValue::try_from(format!("Bearer {token}")).unwrap()
}

pub fn request(credential: Option<&HeaderValue>) -> Request<Body> {
    let mut request = Request::get("/").header(header::HOST, "shop").header(header::ACCEPT, "*/*");
    if let Some(credential) = credential {
        request = request.header(header::AUTHORIZATION, credential);
    }
    request.body(Body::empty()).unwrap()
}

/// Sends a request to a router that answers without suspending.
pub fn answer(router: &mut Router, request: Request<Body>) -> Response {
    let future = pin!(router.call(request));
    let Poll::Ready(response) = future.poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("the router suspended")
    };
    response.unwrap()
}

/// Returns an alternative that sends these credentials in turn. Making the requests and dropping
/// the responses is not timed. Each request has its own bytes, like one from the network.
pub fn sender(
    mut router: Router,
    credentials: &[HeaderValue],
) -> impl FnMut(usize) -> Duration + '_ {
    for credential in credentials {
        assert_eq!(answer(&mut router, request(Some(credential))).status(), StatusCode::OK);
    }
    // Alternatives that share a cache must not warm it for each other.
    let mut next = credentials.iter().cycle().skip(fastrand::usize(..credentials.len()));
    move |repetitions| {
        let mut arrived = || HeaderValue::from_bytes(next.next().unwrap().as_bytes()).unwrap();
        let requests: Vec<_> = (0..repetitions).map(|_| request(Some(&arrived()))).collect();
        let mut responses = Vec::with_capacity(repetitions);
        let start = Instant::now();
        for request in requests {
            responses.push(answer(&mut router, request));
        }
        let elapsed = start.elapsed();
        assert!(responses.iter().all(|response| response.status() == StatusCode::OK));
        elapsed
    }
}
