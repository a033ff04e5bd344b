//! The response future of the authorize service.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response, request::Parts};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{logged::Logged, outcome::rejection};
use crate::{
    authorizer::{Authorizer, DynAuthorizer, RequestHead},
    identity::ServiceAccountIdentity,
    server::{
        deferred_call::{DeferredCall, PendingDecision},
        rejection::Rejection,
        response::{RejectionResponse, respond},
    },
};

pin_project! {
    /// The response future of [`Authorize`](super::Authorize).
    pub struct AuthorizeFuture<S, R, ReqBody, ResBody>
    where
        S: Service<Request<ReqBody>>,
    {
        #[pin]
        call: DeferredCall<S, PendingAuthorization<R, ReqBody>, ReqBody, ResBody>,
    }
}

/// An authorization in progress.
pub(super) struct PendingAuthorization<R, ReqBody> {
    deciding: Pin<Box<dyn Future<Output = Result<Parts, Rejection>> + Send>>,
    /// Apart from the head, so that a body that is not `Send` works. Taken by the decision.
    body: Option<ReqBody>,
    rejection_response: R,
    is_grpc: bool,
}

impl<R, ReqBody> PendingAuthorization<R, ReqBody> {
    pub(super) fn new(
        authorizer: DynAuthorizer,
        caller: ServiceAccountIdentity,
        parts: Parts,
        body: ReqBody,
        rejection_response: R,
        logged: Arc<Logged>,
        is_grpc: bool,
    ) -> Self {
        let deciding = Box::pin(async move {
            let decision = authorizer.authorize(&caller, RequestHead::from(&parts)).await;
            match rejection(decision, &caller, RequestHead::from(&parts), &logged.warn_limit) {
                None => Ok(parts),
                Some(rejection) => Err(rejection),
            }
        });
        Self { deciding, body: Some(body), rejection_response, is_grpc }
    }
}

impl<R, ReqBody, ResBody> PendingDecision<ReqBody, ResBody> for PendingAuthorization<R, ReqBody>
where
    R: RejectionResponse<ResBody>,
{
    fn poll_decision(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Request<ReqBody>, Response<ResBody>>> {
        let decided = ready!(self.deciding.as_mut().poll(cx));
        let Some(body) = self.body.take() else { return Poll::Pending };
        Poll::Ready(
            decided.map(|parts| Request::from_parts(parts, body)).map_err(|rejection| {
                respond(&self.rejection_response, self.is_grpc, None, &rejection)
            }),
        )
    }
}

impl<S, R, ReqBody, ResBody> AuthorizeFuture<S, R, ReqBody, ResBody>
where
    S: Service<Request<ReqBody>>,
{
    #[inline]
    pub(super) fn calling(future: S::Future) -> Self {
        Self { call: DeferredCall::calling(future) }
    }

    pub(super) fn deciding(decision: PendingAuthorization<R, ReqBody>, inner: S) -> Self {
        Self { call: DeferredCall::deciding(decision, inner) }
    }

    pub(super) fn rejected(response: Response<ResBody>) -> Self {
        Self { call: DeferredCall::answered(response) }
    }
}

impl<S, R, ReqBody, ResBody> Future for AuthorizeFuture<S, R, ReqBody, ResBody>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    R: RejectionResponse<ResBody>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll(cx)
    }
}

impl<S, R, ReqBody, ResBody> fmt::Debug for AuthorizeFuture<S, R, ReqBody, ResBody>
where
    S: Service<Request<ReqBody>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizeFuture").finish_non_exhaustive()
    }
}
