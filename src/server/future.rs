//! The response future: waits for the decision if necessary, then drives the inner service's
//! future.

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
        state: State<S, R, S::Future, ReqBody, ResBody>,
    }
}

pin_project! {
    #[project = Projected]
    enum State<S, R, F, ReqBody, ResBody> {
        Inner { #[pin] future: F },
        Waiting { waiting: Waiting, then: Option<Box<Continuation<S, R, ReqBody>>> },
        Rejected { response: Option<Response<ResBody>> },
    }
}

/// What follows the decision. Boxed to keep the future small on a cache hit.
pub(super) struct Continuation<S, R, ReqBody> {
    pub(super) ready: S,
    pub(super) request: Request<ReqBody>,
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
    pub(super) fn inner(future: S::Future) -> Self {
        Self { state: State::Inner { future } }
    }

    pub(super) fn waiting(waiting: Waiting, then: Continuation<S, R, ReqBody>) -> Self {
        Self { state: State::Waiting { waiting, then: Some(Box::new(then)) } }
    }

    pub(super) fn rejected(response: Response<ResBody>) -> Self {
        Self { state: State::Rejected { response: Some(response) } }
    }
}

impl<S, R, ReqBody, ResBody> Future for ResponseFuture<S, R, ReqBody, ResBody>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    R: RejectionResponse<ResBody>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                Projected::Inner { future } => return future.poll(cx),
                Projected::Rejected { response } => {
                    return response
                        .take()
                        .map_or(Poll::Pending, |response| Poll::Ready(Ok(response)));
                }
                Projected::Waiting { waiting, then } => {
                    let outcome = ready!(waiting.as_mut().poll(cx));
                    let Some(then) = then.take() else { return Poll::Pending };
                    let mut then = *then;
                    match accepted_identity(outcome) {
                        Ok(identity) => {
                            then.request.extensions_mut().insert(identity);
                            State::Inner { future: then.ready.call(then.request) }
                        }
                        Err(rejection) => {
                            let response = reject(
                                &then.rejection_response,
                                &then.authenticator,
                                then.is_grpc,
                                then.logged_credential.as_ref(),
                                &rejection,
                            );
                            State::Rejected { response: Some(response) }
                        }
                    }
                }
            };
            state.set(next);
        }
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
