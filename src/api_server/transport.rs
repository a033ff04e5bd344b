//! The type-erased HTTP client of an API server.

use std::{future::poll_fn, pin::Pin, sync::Mutex};

use bytes::Bytes;
use http::{Request, Response};
use tower_service::Service;

use super::response_body::{BoxError, ResponseBody};
use crate::lock::lock;

pub(super) type ResponseFuture =
    Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, BoxError>> + Send>>;

/// Sends one request and returns the response when its head has arrived.
pub(super) trait Transport: Send + Sync {
    fn send(&self, request: Request<Bytes>) -> ResponseFuture;
}

/// A Tower service as a transport. Behind a mutex, because not every service is `Sync`; the lock is
/// held for a clone.
pub(super) struct ServiceTransport<S>(Mutex<S>);

impl<S> ServiceTransport<S> {
    pub(super) fn new(service: S) -> Self {
        Self(Mutex::new(service))
    }
}

impl<S, B> Transport for ServiceTransport<S>
where
    S: Service<Request<Bytes>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    fn send(&self, request: Request<Bytes>) -> ResponseFuture {
        let mut service = lock(&self.0).clone();
        Box::pin(async move {
            poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
            let response = service.call(request).await.map_err(Into::into)?;
            Ok(response.map(ResponseBody::new))
        })
    }
}
