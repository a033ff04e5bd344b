//! The minimal layer that passes an identity to a handler: it inserts an `Arc` into the extensions.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use axum::http::Request;
use tower::{Layer, Service};

#[derive(Clone)]
pub struct Floor(pub Arc<str>);

#[derive(Clone)]
pub struct FloorService<S> {
    inner: S,
    identity: Arc<str>,
}

impl<S> Layer<S> for Floor {
    type Service = FloorService<S>;

    fn layer(&self, inner: S) -> FloorService<S> {
        FloorService { inner, identity: self.0.clone() }
    }
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for FloorService<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        request.extensions_mut().insert(self.identity.clone());
        self.inner.call(request)
    }
}
