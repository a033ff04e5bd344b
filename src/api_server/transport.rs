//! The type-erased HTTP client of an API server.

use std::{error::Error, future::poll_fn, pin::Pin, sync::Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Limited};
use tower_service::Service;

use crate::lock::lock;

pub(super) type BoxError = Box<dyn Error + Send + Sync>;
pub(super) type ResponseFuture =
    Pin<Box<dyn Future<Output = Result<Response<Bytes>, BoxError>> + Send>>;

/// Upper bound for a response body, in bytes. Real ones have a few kilobytes.
const BODY_LIMIT: usize = 1024 * 1024;

/// Sends one request and reads the whole response.
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
            read(response).await
        })
    }
}

/// Reads the body of `response`, up to the limit.
pub(super) async fn read<B>(response: Response<B>) -> Result<Response<Bytes>, BoxError>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let (head, body) = response.into_parts();
    let body = Limited::new(body, BODY_LIMIT).collect().await?.to_bytes();
    Ok(Response::from_parts(head, body))
}
