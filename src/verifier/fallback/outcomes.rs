//! What the outcome of a call says about the token and about the verifier's backend.

use crate::{
    error::VerifyErrorKind,
    verdict::{RejectReason, Verdict},
};

/// Returns the fallback's verdict if it counts. An acceptance is marked. A rejection counts if it
/// states a fact about the token; whether a key, an issuer or an algorithm is known, and how long a
/// token may live, depends on the fallback's configuration.
pub(super) fn counts(verdict: Verdict) -> Option<Verdict> {
    match verdict {
        Verdict::Accept(acceptance) => Some(Verdict::Accept(acceptance.by_fallback())),
        Verdict::Reject(
            RejectReason::UnknownKey
            | RejectReason::Issuer
            | RejectReason::Algorithm
            | RejectReason::LifetimeTooLong,
        ) => None,
        Verdict::Reject(
            RejectReason::Malformed
            | RejectReason::Signature
            | RejectReason::Audience
            | RejectReason::Expired
            | RejectReason::NotYetValid
            | RejectReason::NotAServiceAccount
            | RejectReason::Unauthenticated
            | RejectReason::Deleted
            | RejectReason::Denied,
        ) => Some(verdict),
    }
}

/// Returns whether the backend is unavailable. Any other failure is a mistake, which must not lead
/// to permanent offline verification, or concerns one token, which must not affect the others.
pub(in crate::verifier) fn is_outage(kind: VerifyErrorKind) -> bool {
    matches!(
        kind,
        VerifyErrorKind::Unavailable | VerifyErrorKind::Timeout | VerifyErrorKind::RateLimited
    )
}

/// Returns whether the backend answered, although without a decision. `Inconclusive` does not
/// count: a screen may have computed it while the backend is down.
pub(super) fn is_an_answer(kind: VerifyErrorKind) -> bool {
    matches!(
        kind,
        VerifyErrorKind::Unauthenticated
            | VerifyErrorKind::Forbidden
            | VerifyErrorKind::InvalidResponse
    )
}

/// Returns whether the verdict shows that the verifier's backend works. Other rejections may have
/// been computed, by a screen for instance.
pub(super) fn comes_from_the_backend(verdict: &Verdict) -> bool {
    matches!(
        verdict,
        Verdict::Accept(_) | Verdict::Reject(RejectReason::Unauthenticated | RejectReason::Denied)
    )
}

pub(super) fn is_acceptance(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Accept(_))
}
