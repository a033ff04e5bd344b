//! Whether the verifier failed a short while ago.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::{
    error::VerifyErrorKind,
    lock::lock,
    verdict::{Outcome, RejectReason, Verdict},
};

/// For how long a failure counts. Longer than a verification's time limit, so that it counts until
/// the next one ends.
const RECENT: Duration = Duration::from_secs(20);

/// The last failure of the verifier's backend, until the backend decides again.
///
/// `Saturated` and `Inconclusive` say nothing about the backend, and strangers can cause both. They
/// open the grace of `serve_stale` only during a failure that was seen otherwise.
#[derive(Default)]
pub(super) struct RecentFailure(Mutex<Option<Instant>>);

impl RecentFailure {
    /// Records what `outcome` says about the backend.
    pub(super) fn record(&self, outcome: &Outcome, now: Instant) {
        match outcome {
            // Any other rejection may be computed, by a screen for instance.
            Ok(
                Verdict::Accept(_)
                | Verdict::Reject(RejectReason::Unauthenticated | RejectReason::Denied),
            ) => *lock(&self.0) = None,
            Err(error) if !says_nothing(error.kind()) => *lock(&self.0) = Some(now),
            Ok(Verdict::Reject(_)) | Err(_) => {}
        }
    }

    /// Returns whether a failure of this kind may open the grace.
    pub(super) fn opens_grace(&self, kind: VerifyErrorKind, now: Instant) -> bool {
        !says_nothing(kind)
            || lock(&self.0).is_some_and(|at| now.saturating_duration_since(at) < RECENT)
    }
}

fn says_nothing(kind: VerifyErrorKind) -> bool {
    matches!(kind, VerifyErrorKind::Saturated | VerifyErrorKind::Inconclusive)
}
