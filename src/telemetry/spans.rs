//! Spans, at DEBUG. Fields have OpenTelemetry's names where there is one.

use std::fmt::Debug;

use http::{Method, StatusCode};
use tracing::{
    Span,
    field::{Empty, debug},
};

use super::labels::Stage;
use crate::identity::ServiceAccountIdentity;

/// Returns the span of a decision that may wait.
#[cfg(feature = "server")]
pub(crate) fn decision_span(stage: Stage) -> Span {
    match stage {
        Stage::Authentication => {
            tracing::debug_span!("verify_token", tower_kube_auth.result = Empty)
        }
        Stage::Authorization => {
            tracing::debug_span!("review_access", tower_kube_auth.result = Empty)
        }
    }
}

/// Records the result in `span`, by the name that metrics have for it.
#[cfg(feature = "server")]
pub(crate) fn record_result(span: &Span, result: &'static str) {
    span.record("tower_kube_auth.result", result);
}

/// Records an accepted caller in the request's span, if that has declared the fields.
#[cfg(feature = "server")]
pub(crate) fn record_caller(span: &Span, caller: &ServiceAccountIdentity) {
    span.record("k8s.namespace.name", caller.namespace());
    span.record("k8s.serviceaccount.name", caller.name());
}

/// Returns the span of one attempt to call the API server.
pub(crate) fn api_call_span(method: &Method, path: &str, attempt: u32) -> Span {
    tracing::debug_span!(
        "call_api_server",
        "http.request.method" = method.as_str(),
        "url.path" = path,
        "http.request.resend_count" = attempt.saturating_sub(1),
        "http.response.status_code" = Empty,
        "error.type" = Empty,
    )
}

/// Records the status of a response in the span of a call.
pub(crate) fn record_status(span: &Span, status: StatusCode) {
    span.record("http.response.status_code", status.as_u16());
}

/// Returns the span of a fetch of keys.
#[cfg(feature = "jwks")]
pub(crate) fn key_fetch_span(source: &impl std::fmt::Display) -> Span {
    tracing::debug_span!("fetch_keys", source = %source, "error.type" = Empty)
}

/// Returns the span of an attempt to get a token to send.
pub(crate) fn token_refresh_span(source: &str) -> Span {
    tracing::debug_span!("refresh_token", source, "error.type" = Empty)
}

/// Records the kind of a failure, and not its text, which may be that of a user's service.
pub(crate) fn record_error(span: &Span, kind: impl Debug) {
    span.record("error.type", debug(kind));
}
