//! The response future: gets the token, calls the inner service, and invalidates a rejected token.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response, StatusCode, header};
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::client::{
    Token,
    source::{Getting, SharedSource},
};

/// The error of the inner service, or a [`TokenError`](crate::client::TokenError).
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

pin_project! {
    /// The response future of [`AddToken`](super::AddToken).
    pub struct ResponseFuture<S, ReqBody>
    where
        S: Service<Request<ReqBody>>,
    {
        #[pin]
        state: State<S, S::Future, ReqBody>,
    }
}

pin_project! {
    #[project = Projected]
    enum State<S, F, ReqBody> {
        Getting { getting: Getting, then: Option<Then<S, ReqBody>> },
        Calling { #[pin] future: F, sent: Option<Sent> },
    }
}

/// The call to make with the token.
struct Then<S, ReqBody> {
    source: SharedSource,
    ready: S,
    request: Request<ReqBody>,
}

/// The token that was sent, and its source.
struct Sent {
    source: SharedSource,
    token: Token,
}

impl<S, ReqBody> ResponseFuture<S, ReqBody>
where
    S: Service<Request<ReqBody>>,
{
    pub(super) fn untouched(future: S::Future) -> Self {
        Self { state: State::Calling { future, sent: None } }
    }

    pub(super) fn getting(source: SharedSource, ready: S, request: Request<ReqBody>) -> Self {
        Self {
            state: State::Getting {
                getting: source.token(),
                then: Some(Then { source, ready, request }),
            },
        }
    }
}

impl<S, ReqBody, ResBody> Future for ResponseFuture<S, ReqBody>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    S::Error: Into<BoxError>,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                Projected::Getting { getting, then } => {
                    let token = ready!(getting.as_mut().poll(cx))?;
                    // Taken once: the state changes below.
                    let Some(Then { source, mut ready, mut request }) = then.take() else {
                        return Poll::Pending;
                    };
                    request.headers_mut().insert(header::AUTHORIZATION, token.header_value());
                    State::Calling {
                        future: ready.call(request),
                        sent: Some(Sent { source, token }),
                    }
                }
                Projected::Calling { future, sent } => {
                    let response = ready!(future.poll(cx)).map_err(Into::into)?;
                    if let Some(Sent { source, token }) = sent.take()
                        && is_unauthenticated(&response)
                    {
                        source.invalidate(&token);
                    }
                    return Poll::Ready(Ok(response));
                }
            };
            state.set(next);
        }
    }
}

/// Whether the answer is 401 (RFC 9110 §15.5.2) or gRPC's `UNAUTHENTICATED` in the headers (a
/// trailers-only response).
fn is_unauthenticated<B>(response: &Response<B>) -> bool {
    const UNAUTHENTICATED: &[u8] = b"16";
    response.status() == StatusCode::UNAUTHORIZED
        || response
            .headers()
            .get("grpc-status")
            .is_some_and(|status| status.as_bytes() == UNAUTHENTICATED)
}

impl<S, ReqBody> fmt::Debug for ResponseFuture<S, ReqBody>
where
    S: Service<Request<ReqBody>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
