//! The hit path without axum: the service in front of an inner service that does nothing.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use axum::http::{HeaderValue, Request, Response, header};
use tower::{Layer, Service};
use tower_kube_auth::{
    Authenticator, ServiceAccountIdentity, authenticator::AuthenticatorBuilder,
    server::Authenticate,
};

use super::tokens::{AUDIENCE, Trusting};

/// Returns the identity in the extensions.
#[derive(Clone)]
pub struct Inner;

impl Service<Request<()>> for Inner {
    type Response = Response<Option<ServiceAccountIdentity>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<()>) -> Self::Future {
        ready(Ok(Response::new(request.extensions_mut().remove::<ServiceAccountIdentity>())))
    }
}

/// Returns a service with all these tokens in its cache.
pub fn warm_service(credentials: &[HeaderValue]) -> Authenticate<Inner> {
    warm_service_with(credentials, |builder| builder)
}

/// Returns such a service whose authenticator has more options.
pub fn warm_service_with(
    credentials: &[HeaderValue],
    configure: impl FnOnce(AuthenticatorBuilder) -> AuthenticatorBuilder,
) -> Authenticate<Inner> {
    let builder = Authenticator::builder(Trusting).audience(AUDIENCE).cache_capacity(100_000);
    let builder = configure(builder.cache_ttl(Duration::from_secs(3600)));
    let auth = builder.build().expect("the options are good");
    let mut service = auth.layer().layer(Inner);
    for credential in credentials {
        assert!(call(&mut service, request(credential)), "accepted");
    }
    service
}

pub fn request(credential: &HeaderValue) -> Request<()> {
    let mut request = Request::new(());
    request.headers_mut().insert(header::AUTHORIZATION, credential.clone());
    request
}

/// Returns whether there was an identity.
#[inline]
pub fn call(service: &mut Authenticate<Inner>, request: Request<()>) -> bool {
    let future = pin!(service.call(request));
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(response)) => response.into_body().is_some(),
        _ => false,
    }
}

/// Draws positions by Zipf's law: the n-th comes up 1/n as often as the first.
pub fn zipf(size: usize, draws: usize) -> Vec<usize> {
    let mut sum = 0.0;
    let ladder: Vec<f64> = (1..=size)
        .map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        })
        .collect();
    let draw =
        |_| ladder.partition_point(|step| *step < fastrand::f64() * 0.999_999 * sum).min(size - 1);
    (0..draws).map(draw).collect()
}
