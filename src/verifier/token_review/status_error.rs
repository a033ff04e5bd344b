//! The error of a review's status: about the token, or about a lookup that failed in the API
//! server.
//!
//! Both arrive as `authenticated: false` with a `status.error`. Kubernetes' ServiceAccount
//! authenticator looks up the account in the caches of its watches, then by its own API; a failure
//! of that call becomes the token's error (`GetServiceAccount` in
//! pkg/controller/serviceaccount/tokengetter.go, `Validate` in pkg/serviceaccount/claims.go).
//! kube-apiserver 1.20.2, cut off from etcd, said of a valid token of a new account: `[invalid
//! bearer token, rpc error: code = Unavailable desc = transport is closing]`.
//!
//! Such a failure concerns this token and is not an outage: accounts in the caches are still
//! authenticated.
//!
//! Only known forms count as failed lookups. An unknown form is a rejection, which a valid caller
//! meets for the ten seconds of its cache entry; otherwise an invalid token would never be
//! rejected, nor cached. A failed lookup of a bound Pod or Secret is reported in the words of a
//! deletion (`Token has been invalidated`) and is therefore a rejection.

/// How the errors of a failed lookup begin.
const LOOKUP_FAILURES: [&str; 16] = [
    // etcd, and the connection to it.
    "rpc error: code = ",
    "etcdserver: ",
    // The API server's client of its own API: the transport (Go's `url.Error`, quoted since
    // Go 1.14), its rate limiter.
    "Get \"http",
    "Get http",
    "client rate limiter Wait returned an error",
    // The time limit of the request, or of the lookup that several requests share.
    "context deadline exceeded",
    "context canceled",
    // Error responses of its own API (k8s.io/apimachinery, pkg/api/errors): 429, 500, 503, 504.
    "Too many requests",
    "the server has received too many requests",
    "storage is (re)initializing",
    "Internal error occurred: ",
    "an error on the server (",
    "the server is currently unable to handle the request",
    "the server was unable to return a response in the time allotted",
    "Timeout: ",
    // Followed by `serviceaccounts could not be completed at this time`: the store is unreachable.
    "The get operation against ",
];

/// How the ServiceAccount authenticator reports a rejection, in releases from 1.20 on. Failures of
/// other authenticators of the chain, a webhook for instance, do not matter then. Checked first,
/// because these messages may quote what the caller chose, an audience for instance.
const REJECTIONS: [&str; 15] = [
    "go-jose",
    "invalid signature, no keys found",
    "is invalid for the target audiences",
    "oken has expired",
    "oken has been invalidated",
    "oken is not valid yet",
    "could not be validated",
    "token issuer ",
    "not match",
    " not found",
    " has been deleted",
    "resource name may not be empty",
    " claim is ",
    "json: ",
    "oidc: ",
];

/// Whether the API server failed to look up the token's objects, so that it did not decide.
pub(super) fn is_lookup_failure(error: &str) -> bool {
    if REJECTIONS.iter().any(|rejection| error.contains(rejection)) {
        return false;
    }
    // Go joins the errors of several authenticators as `[one, two]`, possibly nested.
    let mut parts = error.split(", ").map(|part| part.trim_start_matches('['));
    parts.any(|part| LOOKUP_FAILURES.iter().any(|beginning| part.starts_with(beginning)))
}
