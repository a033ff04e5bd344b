//! The service: decides in `call` if the authorizer can, and leaves the rest to the future.

use std::{
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use super::{
    future::{AuthorizeFuture, PendingAuthorization},
    logged::Logged,
    outcome::rejection,
};
use crate::{
    authorizer::{Decision, DynAuthorizer, RequestHead},
    identity::ServiceAccountIdentity,
    server::{
        deferred_call::release_readiness,
        grpc_request::is_grpc,
        rejection::Rejection,
        response::{DefaultRejectionResponse, RejectionResponse, respond},
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
    pub(super) logged: Arc<Logged>,
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
            return AccessOutcome::Rejected(self.without_identity(request));
        };
        let head = RequestHead::from(request);
        match self.authorizer.authorize_caught(caller, head) {
            Some(Ok(Decision::Allow)) => AccessOutcome::Allowed,
            Some(decided) => match rejection(decided, caller, head, &self.logged.warn_limit) {
                Some(rejection) => AccessOutcome::Rejected(rejection),
                None => AccessOutcome::Allowed,
            },
            None => AccessOutcome::Undecided(caller.clone()),
        }
    }

    fn answers_grpc<B>(&self, request: &Request<B>) -> bool {
        !self.no_grpc && is_grpc(request)
    }

    #[cold]
    fn without_identity<B>(&self, request: &Request<B>) -> Rejection {
        if request.extensions().get::<Anonymous>().is_some() {
            return Rejection::MissingToken;
        }
        let rejection = Rejection::MissingAuthenticateLayer;
        if !self.logged.missing_layer.swap(true, Ordering::Relaxed) {
            tracing::error!("{rejection}: add Authenticator::layer() outside of it");
        }
        rejection
    }
}

impl<S, R, ReqBody, ResBody> Service<Request<ReqBody>> for Authorize<S, R>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    R: RejectionResponse<ResBody>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = AuthorizeFuture<S, R, ReqBody, ResBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        match self.gate.authorize(&request) {
            AccessOutcome::Allowed => AuthorizeFuture::calling(self.inner.call(request)),
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
                    self.gate.logged.clone(),
                    is_grpc,
                );
                AuthorizeFuture::deciding(decision, self.inner.clone())
            }
            AccessOutcome::Rejected(rejection) => {
                release_readiness(&mut self.inner);
                let realm = request.extensions().get::<Anonymous>().map(|mark| &*mark.realm);
                let gate = &self.gate;
                AuthorizeFuture::rejected(respond(
                    &gate.rejection_response,
                    gate.answers_grpc(&request),
                    realm,
                    &rejection,
                ))
            }
        }
    }
}
