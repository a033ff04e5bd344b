//! A load in flight, and the wait of those who follow it.

use std::time::Duration;

use tracing::Span;

use super::{
    digest::{Digest, DigestHasher},
    invalidations::VerificationStart,
};
use crate::{
    clock::Clock,
    error::{VerifyError, VerifyErrorKind},
    single_flight,
    verdict::Outcome,
};

pub(super) type Flights = single_flight::Flights<Digest, Outcome, DigestHasher>;
pub(super) type Leader = single_flight::Leader<Digest, Outcome, DigestHasher>;
pub(super) type Follower = single_flight::Follower<Digest, Outcome, DigestHasher>;

/// A load in flight.
pub(super) struct Flight {
    pub(super) leader: Leader,
    pub(super) digest: Digest,
    pub(super) began: VerificationStart,
    pub(super) span: Span,
}

/// Returns the outcome of a flight, and gives the flight up if it does not end in time.
pub(super) async fn wait_for_flight(
    mut follower: Follower,
    clock: &Clock,
    limit: Duration,
) -> Outcome {
    let aborted =
        || VerifyError::new(VerifyErrorKind::Aborted, "the decision was ended with its runtime");
    match clock.timeout(limit, follower.outcome()).await {
        Some(outcome) => outcome.unwrap_or_else(|| Err(aborted())),
        None => {
            follower.give_up();
            let message =
                "the decision did not end; is the runtime that it started on still driven?";
            Err(VerifyError::new(VerifyErrorKind::Timeout, message))
        }
    }
}
