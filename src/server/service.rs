//! The service: the hit path in `call`, everything else in the future.

use std::{
    mem,
    task::{Context, Poll},
};

use http::{HeaderMap, Method, Request, Response, header};
use tower_service::Service;

use super::{
    credential,
    future::ResponseFuture,
    layer::Options,
    rejection::Rejection,
    response::{DefaultRejectionResponse, RejectionResponse},
};
use crate::{
    authenticator::{Authenticator, Digest, Lookup, Outcome, Waiting},
    identity::ServiceAccountIdentity,
    token::PresentedToken,
    verdict::Verdict,
};

/// Authenticates requests before the inner service sees them; see [`AuthenticateLayer`](super::AuthenticateLayer).
#[derive(Clone, Debug)]
pub struct Authenticate<S, R = DefaultRejectionResponse> {
    inner: S,
    authenticator: Authenticator,
    options: Options,
    rejection_response: R,
}

/// Left in the extensions of a request that an optional layer let through without a token, so that an extractor can tell
/// it from a request that met no layer at all.
#[derive(Clone, Debug)]
pub(super) struct Anonymous {
    #[cfg_attr(not(feature = "axum"), expect(dead_code, reason = "read by the extractor only"))]
    pub(super) realm: std::sync::Arc<str>,
}

/// What the credential of a request leads to, as far as that is known at once.
enum AuthOutcome {
    Identity(ServiceAccountIdentity),
    Anonymous,
    Undecided(Waiting),
    Rejected(Rejection),
}

impl<S, R> Authenticate<S, R> {
    pub(super) fn new(
        inner: S,
        authenticator: Authenticator,
        options: Options,
        rejection_response: R,
    ) -> Self {
        Self { inner, authenticator, options, rejection_response }
    }

    #[inline]
    fn authenticate(&self, headers: &HeaderMap) -> AuthOutcome {
        let token = match credential::bearer_token(headers, self.authenticator.max_token_length()) {
            Ok(Some(token)) => token,
            Ok(None) if self.options.optional => return AuthOutcome::Anonymous,
            Ok(None) => return AuthOutcome::Rejected(Rejection::MissingToken),
            Err(malformed) => return AuthOutcome::Rejected(Rejection::MalformedToken(malformed)),
        };
        // What was accepted before was parsed before: the digest is of all its bytes, so these are the same.
        let digest = self.authenticator.digest(token);
        if let Some(identity) = self.authenticator.cached(token, &digest) {
            return AuthOutcome::Identity(identity);
        }
        self.authenticate_uncached(token, digest)
    }

    /// Everything but a hit.
    #[cold]
    fn authenticate_uncached(&self, token: PresentedToken<'_>, digest: Digest) -> AuthOutcome {
        let token = match token.parse() {
            Ok(token) => token,
            Err(malformed) => return AuthOutcome::Rejected(Rejection::MalformedToken(malformed)),
        };
        match self.authenticator.lookup(token, digest) {
            Lookup::Decided(outcome) => match identity(outcome) {
                Ok(identity) => AuthOutcome::Identity(identity),
                Err(rejection) => AuthOutcome::Rejected(rejection),
            },
            Lookup::Waiting(waiting) => AuthOutcome::Undecided(waiting),
        }
    }

    /// Removes what a handler must not see or could mistake for ours.
    #[inline]
    fn strip(&self, headers: &mut HeaderMap) {
        if !self.options.keep_authorization {
            headers.remove(header::AUTHORIZATION);
        }
        strip_remote_headers(headers);
    }

    fn reject<ReqBody, ResBody>(
        &self,
        request: &Request<ReqBody>,
        rejection: &Rejection,
    ) -> Response<ResBody>
    where
        R: RejectionResponse<ResBody>,
    {
        reject(&self.rejection_response, &self.authenticator, is_grpc(request), rejection)
    }
}

impl<S, R, ReqBody, ResBody> Service<Request<ReqBody>> for Authenticate<S, R>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    R: RejectionResponse<ResBody>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, R, ReqBody, ResBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        match self.authenticate(request.headers()) {
            AuthOutcome::Identity(identity) => {
                self.strip(request.headers_mut());
                request.extensions_mut().insert(identity);
                ResponseFuture::inner(self.inner.call(request))
            }
            AuthOutcome::Anonymous => {
                self.strip(request.headers_mut());
                request.extensions_mut().remove::<ServiceAccountIdentity>();
                request
                    .extensions_mut()
                    .insert(Anonymous { realm: self.authenticator.realm().clone() });
                ResponseFuture::inner(self.inner.call(request))
            }
            AuthOutcome::Undecided(waiting) => {
                let is_grpc = is_grpc(&request);
                self.strip(request.headers_mut());
                // The service that was polled ready is the one to call; its clone, which was not, takes its place here.
                let clone = self.inner.clone();
                let ready = mem::replace(&mut self.inner, clone);
                let (rejection_response, authenticator) =
                    (self.rejection_response.clone(), self.authenticator.clone());
                ResponseFuture::waiting(
                    waiting,
                    ready,
                    request,
                    rejection_response,
                    authenticator,
                    is_grpc,
                )
            }
            AuthOutcome::Rejected(rejection) => {
                ResponseFuture::rejected(self.reject(&request, &rejection))
            }
        }
    }
}

pub(super) fn identity(outcome: Outcome) -> Result<ServiceAccountIdentity, Rejection> {
    match outcome {
        Ok(Verdict::Accept(acceptance)) => Ok(acceptance.identity().clone()),
        Ok(Verdict::Reject(reason)) => Err(Rejection::InvalidToken(reason)),
        Err(error) => Err(Rejection::Unavailable(error)),
    }
}

pub(super) fn reject<R, ResBody>(
    rejection_response: &R,
    by: &Authenticator,
    is_grpc: bool,
    why: &Rejection,
) -> Response<ResBody>
where
    R: RejectionResponse<ResBody>,
{
    why.log();
    rejection_response
        .respond(if is_grpc { why.grpc_response() } else { why.response(by.realm()) }, why)
}

/// gRPC and its kin (`application/grpc+proto`, `application/grpc-web`) read the outcome from `grpc-status`.
///
/// They always POST. A refusal of anything else must not have the status 200, which a shared cache may keep for everybody.
fn is_grpc<B>(request: &Request<B>) -> bool {
    let content = request.headers().get(header::CONTENT_TYPE);
    request.method() == Method::POST
        && content.is_some_and(|content| content.as_bytes().starts_with(b"application/grpc"))
}

/// `X-Remote-User`, `-Uid`, `-Group` and `-Extra-*` are how an authenticating proxy tells an API server who calls; from a
/// client they are a forgery (k8s.io/apiserver deletes them too).
#[inline]
fn strip_remote_headers(headers: &mut HeaderMap) {
    const PREFIX: &str = "x-remote-";
    if headers.keys().any(|name| name.as_str().starts_with(PREFIX)) {
        let forged: Vec<_> = headers
            .keys()
            .filter(|name| is_remote_header(name.as_str(), PREFIX))
            .cloned()
            .collect();
        for name in forged {
            headers.remove(name);
        }
    }
}

fn is_remote_header(name: &str, prefix: &str) -> bool {
    let rest = name.strip_prefix(prefix).unwrap_or_default();
    matches!(rest, "user" | "uid" | "group") || rest.starts_with("extra-")
}
