//! The metrics that a service records: names, labels, and that each outcome counts as itself.

mod attempts;
mod calls;
mod cardinality;
mod gauges;
mod live_objects;
mod own_token;

use std::collections::BTreeMap;

use tower_kube_auth::{error::VerifyErrorKind, verdict::RejectReason};

const ATTEMPTS: &str = "authentication_attempts_total";
const AUTHORIZATIONS: &str = "authorization_attempts_total";

const REJECT_REASONS: [RejectReason; 13] = [
    RejectReason::Malformed,
    RejectReason::Algorithm,
    RejectReason::UnknownKey,
    RejectReason::Signature,
    RejectReason::Issuer,
    RejectReason::Audience,
    RejectReason::Expired,
    RejectReason::NotYetValid,
    RejectReason::LifetimeTooLong,
    RejectReason::NotAServiceAccount,
    RejectReason::Unauthenticated,
    RejectReason::Deleted,
    RejectReason::Denied,
];

const VERIFY_ERRORS: [VerifyErrorKind; 9] = [
    VerifyErrorKind::Unavailable,
    VerifyErrorKind::Timeout,
    VerifyErrorKind::RateLimited,
    VerifyErrorKind::Unauthenticated,
    VerifyErrorKind::Forbidden,
    VerifyErrorKind::Inconclusive,
    VerifyErrorKind::InvalidResponse,
    VerifyErrorKind::Saturated,
    VerifyErrorKind::Aborted,
];

fn once(label: &str) -> BTreeMap<String, f64> {
    [(label.to_owned(), 1.0)].into()
}
