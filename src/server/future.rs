//! The response future of the authenticate service.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    deferred_call::{DeferredCall, PendingDecision},
    rejection::accepted_identity,
    response::{RejectionResponse, reject},
};
use crate::authenticator::{Authenticator, Waiting};

pin_project! {
    /// The response future of [`Authenticate`](super::Authenticate).
    pub struct ResponseFuture<S, R, ReqBody, ResBody>
    where
        S: Service<Request<ReqBody>>,
    {
        #[pin]
        call: DeferredCall<S, PendingAuthentication<R, ReqBody>, ReqBody, ResBody>,
    }
}

/// A verification in progress.
pub(super) struct PendingAuthentication<R, ReqBody> {
    pub(super) waiting: Waiting,
    /// Taken by the decision.
    pub(super) request: Option<Request<ReqBody>>,
    pub(super) rejection_response: R,
    pub(super) authenticator: Authenticator,
    pub(super) is_grpc: bool,
    /// The `Authorization` header, if a rejection is logged in detail.
    pub(super) logged_credential: Option<HeaderValue>,
}

impl<S, R, ReqBody, ResBody> ResponseFuture<S, R, ReqBody, ResBody>
where
    S: Service<Request<ReqBody>>,
{
    #[inline]
    pub(super) fn calling(future: S::Future) -> Self {
        Self { call: DeferredCall::calling(future) }
    }

    pub(super) fn deciding(decision: PendingAuthentication<R, ReqBody>, inner: S) -> Self {
        Self { call: DeferredCall::deciding(decision, inner) }
    }

    pub(super) fn rejected(response: Response<ResBody>) -> Self {
        Self { call: DeferredCall::answered(response) }
    }
}

impl<R, ReqBody, ResBody> PendingDecision<ReqBody, ResBody> for PendingAuthentication<R, ReqBody>
where
    R: RejectionResponse<ResBody>,
{
    fn poll_decision(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Request<ReqBody>, Response<ResBody>>> {
        let outcome = ready!(self.waiting.as_mut().poll(cx));
        let Some(mut request) = self.request.take() else { return Poll::Pending };
        Poll::Ready(match accepted_identity(outcome) {
            Ok(identity) => {
                request.extensions_mut().insert(identity);
                Ok(request)
            }
            Err(rejection) => Err(reject(
                &self.rejection_response,
                &self.authenticator,
                self.is_grpc,
                self.logged_credential.as_ref(),
                &rejection,
            )),
        })
    }
}

impl<S, R, ReqBody, ResBody> Future for ResponseFuture<S, R, ReqBody, ResBody>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    R: RejectionResponse<ResBody>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll(cx)
    }
}

impl<S, R, ReqBody, ResBody> fmt::Debug for ResponseFuture<S, R, ReqBody, ResBody>
where
    S: Service<Request<ReqBody>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
