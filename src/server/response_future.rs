//! The response future of the middleware, which calls the inner service at once, after a decision,
//! or not at all.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

/// A decision in progress, which keeps the request until it is there.
pub trait PendingDecision<ReqBody, ResBody> {
    /// Polls for the request, which goes on to the inner service, or for the response that is
    /// returned in its place. Must not be polled again after that.
    fn poll_decision(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Request<ReqBody>, Response<ResBody>>>;
}

pin_project! {
    /// The response future of [`Authenticate`](super::Authenticate) and
    /// [`Authorize`](super::Authorize).
    ///
    /// `S` is the inner service, `D` the decision that the request waits for.
    pub struct ResponseFuture<S, D, ReqBody, ResBody>
    where
        S: Service<Request<ReqBody>>,
    {
        #[pin]
        state: State<S, D, S::Future, ReqBody, ResBody>,
    }
}

pin_project! {
    #[project = Projected]
    enum State<S, D, F, ReqBody, ResBody> {
        Calling { #[pin] future: F },
        // Boxed, like the next one, to keep the future small if there is nothing to wait for.
        Deciding { waiting: Option<Box<(D, S)>> },
        Allowed { waiting: Option<Box<(Request<ReqBody>, S)>> },
        Answered { response: Option<Response<ResBody>> },
    }
}

impl<S, D, ReqBody, ResBody> ResponseFuture<S, D, ReqBody, ResBody>
where
    S: Service<Request<ReqBody>>,
{
    #[inline]
    pub(super) fn calling(future: S::Future) -> Self {
        Self { state: State::Calling { future } }
    }

    /// Calls `inner` after the decision. `inner` is a clone that was not polled ready: a request
    /// that waits for a decision must not hold what readiness reserves, a permit for example.
    pub(super) fn deciding(decision: D, inner: S) -> Self {
        Self { state: State::Deciding { waiting: Some(Box::new((decision, inner))) } }
    }

    pub(super) fn answered(response: Response<ResBody>) -> Self {
        Self { state: State::Answered { response: Some(response) } }
    }
}

impl<S, D, ReqBody, ResBody> Future for ResponseFuture<S, D, ReqBody, ResBody>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    D: PendingDecision<ReqBody, ResBody>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                Projected::Calling { future } => return future.poll(cx),
                Projected::Answered { response } => {
                    return response
                        .take()
                        .map_or(Poll::Pending, |response| Poll::Ready(Ok(response)));
                }
                Projected::Deciding { waiting } => {
                    let Some((decision, _)) = waiting.as_deref_mut() else { return Poll::Pending };
                    let decided = ready!(decision.poll_decision(cx));
                    let Some(finished) = waiting.take() else { return Poll::Pending };
                    match decided {
                        Ok(request) => {
                            State::Allowed { waiting: Some(Box::new((request, finished.1))) }
                        }
                        Err(response) => State::Answered { response: Some(response) },
                    }
                }
                Projected::Allowed { waiting } => {
                    let Some((_, inner)) = waiting.as_deref_mut() else { return Poll::Pending };
                    ready!(inner.poll_ready(cx))?;
                    let Some(ready) = waiting.take() else { return Poll::Pending };
                    let (request, mut inner) = *ready;
                    State::Calling { future: inner.call(request) }
                }
            };
            state.set(next);
        }
    }
}

impl<S, D, ReqBody, ResBody> fmt::Debug for ResponseFuture<S, D, ReqBody, ResBody>
where
    S: Service<Request<ReqBody>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// Replaces `inner`, which was polled ready but is not called now, by a clone that was not:
/// whatever readiness reserves, such as a permit of a concurrency limit, is free for other
/// requests.
pub(super) fn release_readiness<S: Clone>(inner: &mut S) {
    let unpolled = inner.clone();
    *inner = unpolled;
}
