//! What a decision means for the request.

use crate::{
    authenticator::WarnLimit,
    authorizer::{AuthorizeError, Decision, RequestHead},
    identity::ServiceAccountIdentity,
    server::{rejection::Rejection, rejection_log},
};

/// Returns the rejection that a decision leads to, and logs it; none if it is to allow.
pub(super) fn rejection(
    decision: Result<Decision, AuthorizeError>,
    caller: &ServiceAccountIdentity,
    head: RequestHead<'_>,
    warn_limit: &WarnLimit,
) -> Option<Rejection> {
    let rejection = match decision {
        Ok(Decision::Allow) => return None,
        Ok(Decision::Deny(reason)) => Rejection::Forbidden(reason),
        Err(error) => Rejection::AuthorizationUnavailable(error),
    };
    rejection_log::log_authorization(&rejection, caller, head, warn_limit);
    Some(rejection)
}
