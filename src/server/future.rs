//! The response future: mostly the inner service's own.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{response::RejectionResponse, service};
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
        Waiting { waiting: Waiting, then: Option<Box<Then<S, R, ReqBody>>> },
        Rejected { response: Option<Response<ResBody>> },
    }
}

/// What happens once the decision is there. Boxed, so that the future of a hit is not the larger for it.
struct Then<S, R, ReqBody> {
    ready: S,
    request: Request<ReqBody>,
    rejection_response: R,
    authenticator: Authenticator,
    is_grpc: bool,
}

impl<S, R, ReqBody, ResBody> ResponseFuture<S, R, ReqBody, ResBody>
where
    S: Service<Request<ReqBody>>,
{
    #[inline]
    pub(super) fn inner(future: S::Future) -> Self {
        Self { state: State::Inner { future } }
    }

    pub(super) fn waiting(
        waiting: Waiting,
        ready: S,
        request: Request<ReqBody>,
        rejection_response: R,
        authenticator: Authenticator,
        is_grpc: bool,
    ) -> Self {
        let then = Box::new(Then { ready, request, rejection_response, authenticator, is_grpc });
        Self { state: State::Waiting { waiting, then: Some(then) } }
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
                    // Taken once: the state changes below.
                    let Some(then) = then.take() else { return Poll::Pending };
                    let mut then = *then;
                    match service::identity(outcome) {
                        Ok(identity) => {
                            then.request.extensions_mut().insert(identity);
                            State::Inner { future: then.ready.call(then.request) }
                        }
                        Err(rejection) => {
                            let response = service::reject(
                                &then.rejection_response,
                                &then.authenticator,
                                then.is_grpc,
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
