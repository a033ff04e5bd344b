//! Whether the error of a review is about the token, or about trouble that the API server had with looking it up.
//!
//! Both come as `authenticated: false` with a `status.error`. Kubernetes' ServiceAccount authenticator looks for the account in the
//! caches of its watches; what it does not find there it asks its own API for, and where that fails, the failure becomes the
//! token's (`GetServiceAccount` in pkg/controller/serviceaccount/tokengetter.go, `Validate` in pkg/serviceaccount/claims.go). An API
//! server that was cut off from etcd said so of a good token of a new account: `[invalid bearer token, rpc error: code = Unavailable desc =
//! transport is closing]` (kube-apiserver 1.20.2).
//!
//! It is trouble with this token and no outage: who is found in the caches is authenticated all the while.
//!
//! Only forms that are known count as trouble. An unknown one is a refusal, which costs a good caller the ten seconds for which it
//! is cached; the other way round a bad token would never be refused, nor cached. For a bound Pod or Secret the API server hides its
//! trouble behind the very words of a deletion (`Token has been invalidated`): that is a refusal.

/// How the errors of a failed lookup begin.
const TROUBLE: [&str; 16] = [
    // etcd, and the connection to it.
    "rpc error: code = ",
    "etcdserver: ",
    // The API server's client of its own API: the transport (Go's `url.Error`, quoted since Go 1.14), its rate limiter.
    "Get \"http",
    "Get http",
    "client rate limiter Wait returned an error",
    // The request's own time limit, or that of the lookup which several requests share.
    "context deadline exceeded",
    "context canceled",
    // What its own API answers (k8s.io/apimachinery, pkg/api/errors): 429, 500, 503, 504.
    "Too many requests",
    "the server has received too many requests",
    "storage is (re)initializing",
    "Internal error occurred: ",
    "an error on the server (",
    "the server is currently unable to handle the request",
    "the server was unable to return a response in the time allotted",
    "Timeout: ",
    // Followed by `serviceaccounts could not be completed at this time`: the store cannot be reached.
    "The get operation against ",
];

/// What the ServiceAccount authenticator says when it has come to a refusal, in the releases from 1.20 on. Whatever other
/// authenticators of the chain had trouble with, a webhook for instance, is then of no account. These words may quote what the
/// caller chose, an audience for instance, so they go first.
const REFUSALS: [&str; 15] = [
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

/// Whether the API server failed to look the token up, so that it has decided nothing.
pub(super) fn is_the_api_servers(error: &str) -> bool {
    if REFUSALS.iter().any(|refusal| error.contains(refusal)) {
        return false;
    }
    // Go joins the errors of several authenticators as `[one, two]`, and that again.
    let mut parts = error.split(", ").map(|part| part.trim_start_matches('['));
    parts.any(|part| TROUBLE.iter().any(|beginning| part.starts_with(beginning)))
}
