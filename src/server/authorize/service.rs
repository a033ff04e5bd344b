//! The service: decides in `call` if the authorizer can, and leaves the rest to the future.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response, request::Parts};
use tower_service::Service;

use super::decisions::Decisions;
use crate::{
    authorizer::{Authorizer, Decision, DynAuthorizer, RequestHead},
    identity::ServiceAccountIdentity,
    server::{
        grpc_request::is_grpc,
        rejection::Rejection,
        response::{DefaultRejectionResponse, RejectionResponse, respond},
        response_future::{PendingDecision, ResponseFuture, release_readiness},
        service::Anonymous,
    },
};

/// Authorizes requests before the inner service sees them; see
/// [`AuthorizeLayer`](super::AuthorizeLayer).
#[derive(Clone, Debug)]
pub struct Authorize<S, R = DefaultRejectionResponse> {
    inner: S,
    gate: Gate<R>,
}

/// What the layer and its services share.
#[derive(Clone, Debug)]
pub(super) struct Gate<R> {
    pub(super) authorizer: DynAuthorizer,
    pub(super) rejection_response: R,
    pub(super) no_grpc: bool,
    pub(super) decisions: Decisions,
}

enum AccessOutcome {
    Allowed,
    Undecided(ServiceAccountIdentity),
    Rejected(Rejection),
}

impl<S, R> Authorize<S, R> {
    pub(super) fn new(inner: S, gate: Gate<R>) -> Self {
        Self { inner, gate }
    }

    /// Returns a reference to the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<R> Gate<R> {
    #[inline]
    fn authorize<B>(&self, request: &Request<B>) -> AccessOutcome {
        let Some(caller) = request.extensions().get::<ServiceAccountIdentity>() else {
            return match self.decisions.without_identity(request) {
                Some(rejection) => AccessOutcome::Rejected(rejection),
                None => AccessOutcome::Allowed,
            };
        };
        let head = RequestHead::from(request);
        match self.authorizer.authorize_caught(caller, head) {
            Some(Ok(Decision::Allow)) => {
                self.decisions.allow();
                AccessOutcome::Allowed
            }
            Some(decided) => match self.decisions.rejection(decided, caller, head) {
                Some(rejection) => AccessOutcome::Rejected(rejection),
                None => AccessOutcome::Allowed,
            },
            None => AccessOutcome::Undecided(caller.clone()),
        }
    }

    fn answers_grpc<B>(&self, request: &Request<B>) -> bool {
        !self.no_grpc && is_grpc(request)
    }
}

impl<S, R, ReqBody, ResBody> Service<Request<ReqBody>> for Authorize<S, R>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    R: RejectionResponse<ResBody>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, PendingAuthorization<R, ReqBody>, ReqBody, ResBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        match self.gate.authorize(&request) {
            AccessOutcome::Allowed => ResponseFuture::calling(self.inner.call(request)),
            AccessOutcome::Undecided(caller) => {
                release_readiness(&mut self.inner);
                let is_grpc = self.gate.answers_grpc(&request);
                let (parts, body) = request.into_parts();
                let authorizer = self.gate.authorizer.clone();
                let decision = PendingAuthorization::new(
                    authorizer,
                    caller,
                    parts,
                    body,
                    self.gate.rejection_response.clone(),
                    self.gate.decisions.clone(),
                    is_grpc,
                );
                ResponseFuture::deciding(decision, self.inner.clone())
            }
            AccessOutcome::Rejected(rejection) => {
                release_readiness(&mut self.inner);
                let realm = request.extensions().get::<Anonymous>().map(|mark| &*mark.realm);
                let gate = &self.gate;
                ResponseFuture::answered(respond(
                    &gate.rejection_response,
                    gate.answers_grpc(&request),
                    realm,
                    &rejection,
                ))
            }
        }
    }
}

/// An authorization in progress.
#[expect(missing_debug_implementations, reason = "only the type of a future names it")]
pub struct PendingAuthorization<R, ReqBody> {
    deciding: Pin<Box<dyn Future<Output = Result<Parts, Rejection>> + Send>>,
    /// Apart from the head, so that a body that is not `Send` works. Taken by the decision.
    body: Option<ReqBody>,
    rejection_response: R,
    is_grpc: bool,
}

impl<R, ReqBody> PendingAuthorization<R, ReqBody> {
    fn new(
        authorizer: DynAuthorizer,
        caller: ServiceAccountIdentity,
        parts: Parts,
        body: ReqBody,
        rejection_response: R,
        decisions: Decisions,
        is_grpc: bool,
    ) -> Self {
        let deciding = Box::pin(async move {
            let decision = authorizer.authorize(&caller, RequestHead::from(&parts)).await;
            match decisions.rejection(decision, &caller, RequestHead::from(&parts)) {
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
