//! The service: authenticates a request in `call` if it can, and leaves the rest to the future.

use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, Method, Request, Response, header};
use tower_service::Service;

use super::{
    credential,
    future::{Continuation, ResponseFuture},
    rejection::{Rejection, accepted_identity},
    rejection_log,
    response::{DefaultRejectionResponse, RejectionResponse, reject},
};
use crate::{
    authenticator::{Authenticator, Digest, Lookup, Waiting},
    identity::ServiceAccountIdentity,
    token::PresentedToken,
};

/// Authenticates requests before the inner service sees them; see
/// [`AuthenticateLayer`](super::AuthenticateLayer).
#[derive(Clone, Debug)]
pub struct Authenticate<S, R = DefaultRejectionResponse> {
    inner: S,
    authenticator: Authenticator,
    options: Options,
    rejection_response: R,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Options {
    pub(super) optional: bool,
    pub(super) keep_authorization: bool,
}

/// Marks a request that an optional layer let through without a token. Without the mark, an
/// extractor could not tell it from a request that passed no layer.
#[derive(Clone, Debug)]
pub(super) struct Anonymous {
    #[cfg_attr(not(feature = "axum"), expect(dead_code, reason = "read by the extractor only"))]
    pub(super) realm: Arc<str>,
}

/// What the credential of a request leads to, as far as it is known without waiting.
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

    #[inline]
    fn authenticate(&self, headers: &HeaderMap) -> AuthOutcome {
        let token = match credential::bearer_token(headers, self.authenticator.max_token_length()) {
            Ok(Some(token)) => token,
            Ok(None) if self.options.optional => return AuthOutcome::Anonymous,
            Ok(None) => return AuthOutcome::Rejected(Rejection::MissingToken),
            Err(malformed) => return AuthOutcome::Rejected(Rejection::MalformedToken(malformed)),
        };
        // A hit needs no parsing: the digest covers all bytes, and these were parsed on acceptance.
        let digest = self.authenticator.digest(token);
        if let Some(identity) = self.authenticator.cached(token, &digest) {
            return AuthOutcome::Identity(identity);
        }
        self.authenticate_uncached(token, digest)
    }

    #[cold]
    fn authenticate_uncached(&self, token: PresentedToken<'_>, digest: Digest) -> AuthOutcome {
        let token = match token.parse() {
            Ok(token) => token,
            Err(malformed) => return AuthOutcome::Rejected(Rejection::MalformedToken(malformed)),
        };
        match self.authenticator.lookup(token, digest) {
            Lookup::Decided(outcome) => match accepted_identity(outcome) {
                Ok(identity) => AuthOutcome::Identity(identity),
                Err(rejection) => AuthOutcome::Rejected(rejection),
            },
            Lookup::Waiting(waiting) => AuthOutcome::Undecided(waiting),
        }
    }

    /// Removes the token and forged identity headers, so that no handler sees them.
    #[inline]
    fn strip(&self, headers: &mut HeaderMap) {
        if !self.options.keep_authorization {
            headers.remove(header::AUTHORIZATION);
        }
        strip_remote_headers(headers);
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
                let logged_credential = rejection_log::is_enabled()
                    .then(|| request.headers().get(header::AUTHORIZATION).cloned())
                    .flatten();
                self.strip(request.headers_mut());
                // The service that was polled ready must be the one to call; its clone was not
                // polled.
                let clone = self.inner.clone();
                let ready = mem::replace(&mut self.inner, clone);
                let (rejection_response, authenticator) =
                    (self.rejection_response.clone(), self.authenticator.clone());
                ResponseFuture::waiting(
                    waiting,
                    Continuation {
                        ready,
                        request,
                        rejection_response,
                        authenticator,
                        is_grpc,
                        logged_credential,
                    },
                )
            }
            AuthOutcome::Rejected(rejection) => ResponseFuture::rejected(reject(
                &self.rejection_response,
                &self.authenticator,
                is_grpc(&request),
                request.headers().get(header::AUTHORIZATION),
                &rejection,
            )),
        }
    }
}

/// gRPC and its variants (`application/grpc+proto`, `application/grpc-web`) read the outcome from
/// `grpc-status`.
///
/// They always POST. A rejection of any other method must not have the status 200, which a shared
/// cache may store for all clients.
fn is_grpc<B>(request: &Request<B>) -> bool {
    let content = request.headers().get(header::CONTENT_TYPE);
    request.method() == Method::POST
        && content.is_some_and(|content| content.as_bytes().starts_with(b"application/grpc"))
}

/// Removes `X-Remote-User`, `-Uid`, `-Group` and `-Extra-*`. An authenticating proxy names the
/// caller to an API server in them; from a client they are a forgery (k8s.io/apiserver deletes them
/// too).
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
