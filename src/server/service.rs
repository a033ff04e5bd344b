//! The service: authenticates a request in `call` if it can, and leaves the rest to the future.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Extensions, HeaderMap, HeaderValue, Request, Response, header};
use tower_service::Service;
use tracing::Span;

use super::{
    credential,
    grpc_request::is_grpc,
    rejection::{Rejection, accepted_identity},
    rejection_log,
    response::{DefaultRejectionResponse, RejectionResponse, reject},
    response_future::{PendingDecision, ResponseFuture, release_readiness},
};
use crate::{
    authenticator::Authenticator,
    cache::{Digest, Lookup, Waiting},
    identity::ServiceAccountIdentity,
    telemetry::{self, Stage},
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
    pub(super) no_grpc: bool,
    pub(super) report_only: bool,
}

/// Marks a request that an optional or a report-only layer let through without an identity. Without
/// the mark, an extractor could not tell it from a request that passed no layer.
#[derive(Clone, Debug)]
pub(super) struct Anonymous {
    pub(super) realm: Arc<str>,
}

/// What the credential of a request leads to, as far as it is known without waiting.
enum AuthOutcome {
    Identity(ServiceAccountIdentity),
    /// An outer layer of the same authenticator has accepted the caller, and removed the token.
    AlreadyAuthenticated,
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
    fn authenticate(&self, headers: &HeaderMap, extensions: &Extensions) -> AuthOutcome {
        let token = match credential::bearer_token(headers, self.authenticator.max_token_length()) {
            Ok(Some(token)) => token,
            Ok(None) => return self.without_token(extensions),
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
    fn without_token(&self, extensions: &Extensions) -> AuthOutcome {
        let identity = extensions.get::<ServiceAccountIdentity>();
        if identity.is_some_and(|identity| self.authenticator.has_accepted(identity)) {
            AuthOutcome::AlreadyAuthenticated
        } else if self.options.optional {
            AuthOutcome::Anonymous
        } else {
            AuthOutcome::Rejected(Rejection::MissingToken)
        }
    }

    #[cold]
    fn authenticate_uncached(&self, token: PresentedToken<'_>, digest: Digest) -> AuthOutcome {
        let token = match token.parse() {
            Ok(token) => token,
            Err(malformed) => return AuthOutcome::Rejected(Rejection::MalformedToken(malformed)),
        };
        match self.authenticator.lookup(token, digest) {
            Lookup::Decided(outcome) => match accepted_identity(outcome) {
                Ok(identity) => {
                    count_acceptance(&identity);
                    AuthOutcome::Identity(identity)
                }
                Err(rejection) => AuthOutcome::Rejected(rejection),
            },
            Lookup::Waiting(waiting) => AuthOutcome::Undecided(waiting),
        }
    }

    fn answers_grpc<B>(&self, request: &Request<B>) -> bool {
        !self.options.no_grpc && is_grpc(request)
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
    type Future = ResponseFuture<S, PendingAuthentication<R, ReqBody>, ReqBody, ResBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        match self.authenticate(request.headers(), request.extensions()) {
            AuthOutcome::Identity(identity) => {
                self.strip(request.headers_mut());
                request.extensions_mut().insert(identity);
                ResponseFuture::calling(self.inner.call(request))
            }
            AuthOutcome::AlreadyAuthenticated => {
                self.strip(request.headers_mut());
                ResponseFuture::calling(self.inner.call(request))
            }
            AuthOutcome::Anonymous => {
                count(&Rejection::MissingToken);
                self.strip(request.headers_mut());
                make_anonymous(request.extensions_mut(), &self.authenticator);
                ResponseFuture::calling(self.inner.call(request))
            }
            AuthOutcome::Undecided(waiting) => {
                let is_grpc = self.answers_grpc(&request);
                let logged_credential = if self.options.report_only {
                    request.headers().get(header::AUTHORIZATION).cloned()
                } else {
                    rejection_log::credential(request.headers())
                };
                self.strip(request.headers_mut());
                release_readiness(&mut self.inner);
                ResponseFuture::deciding(
                    PendingAuthentication {
                        waiting,
                        request: Some(request),
                        rejection_response: self.rejection_response.clone(),
                        authenticator: self.authenticator.clone(),
                        is_grpc,
                        report_only: self.options.report_only,
                        logged_credential,
                    },
                    self.inner.clone(),
                )
            }
            AuthOutcome::Rejected(rejection) if self.options.report_only => {
                count(&rejection);
                let credential = request.headers().get(header::AUTHORIZATION);
                rejection_log::report(&rejection, &self.authenticator, credential);
                self.strip(request.headers_mut());
                make_anonymous(request.extensions_mut(), &self.authenticator);
                ResponseFuture::calling(self.inner.call(request))
            }
            AuthOutcome::Rejected(rejection) => {
                count(&rejection);
                release_readiness(&mut self.inner);
                ResponseFuture::answered(reject(
                    &self.rejection_response,
                    &self.authenticator,
                    self.answers_grpc(&request),
                    rejection_log::credential(request.headers()).as_ref(),
                    &rejection,
                ))
            }
        }
    }
}

/// A verification in progress.
#[expect(missing_debug_implementations, reason = "only the type of a future names it")]
pub struct PendingAuthentication<R, ReqBody> {
    waiting: Waiting,
    /// Taken by the decision.
    request: Option<Request<ReqBody>>,
    rejection_response: R,
    authenticator: Authenticator,
    is_grpc: bool,
    report_only: bool,
    /// The `Authorization` header, if a rejection is logged in detail.
    logged_credential: Option<HeaderValue>,
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
        let accepted = accepted_identity(outcome);
        match &accepted {
            Ok(identity) => count_acceptance(identity),
            Err(rejection) => count(rejection),
        }
        Poll::Ready(match accepted {
            Ok(identity) => {
                request.extensions_mut().insert(identity);
                Ok(request)
            }
            Err(rejection) if self.report_only => {
                let credential = self.logged_credential.as_ref();
                rejection_log::report(&rejection, &self.authenticator, credential);
                make_anonymous(request.extensions_mut(), &self.authenticator);
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

/// Counts a request whose token was not in the cache and is accepted, and records the caller in the
/// request's span. The authenticator counts hits; to keep these short, nothing is recorded of them.
fn count_acceptance(caller: &ServiceAccountIdentity) {
    telemetry::attempt(Stage::Authentication, "accepted");
    let span = Span::current();
    telemetry::record_caller(&span, caller);
    telemetry::record_result(&span, "accepted");
}

/// Counts a request that is not accepted, also if it goes on, and records why in its span.
fn count(rejection: &Rejection) {
    let result = match rejection {
        Rejection::MissingToken => "no_token",
        Rejection::MalformedToken(_) => "invalid_request",
        other => other.reason(),
    };
    telemetry::attempt(Stage::Authentication, result);
    telemetry::record_result(&Span::current(), result);
}

/// Removes the identity that an outer layer may have inserted, and marks the request as anonymous.
fn make_anonymous(extensions: &mut Extensions, authenticator: &Authenticator) {
    extensions.remove::<ServiceAccountIdentity>();
    extensions.insert(Anonymous { realm: authenticator.realm().clone() });
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
