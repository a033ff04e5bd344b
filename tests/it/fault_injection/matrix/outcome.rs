//! The expected and the actual outcome of one failure of one call.

use std::{ops::RangeInclusive, time::Duration};

use crate::fault_injection::failure::Failure;

/// The expected outcome for new callers.
#[derive(Clone)]
pub(super) struct Cell {
    pub(super) served: bool,
    pub(super) seconds: RangeInclusive<f64>,
    pub(super) calls: u64,
}

pub(super) fn served(seconds: f64, calls: u64) -> Cell {
    Cell { served: true, seconds: seconds..=seconds, calls }
}

/// A 503 with `Retry-After`, or an error of the token source.
pub(super) fn undecided(seconds: RangeInclusive<f64>, calls: u64) -> Cell {
    Cell { served: false, seconds, calls }
}

/// Five attempts, with pauses that start at 0.5 s, grow by half, and have up to 20 % jitter.
pub(super) fn retried(calls: u64) -> Cell {
    undecided(4.06..=4.88, calls)
}

pub(super) fn not_retried() -> Cell {
    undecided(0.0..=0.0, 1)
}

/// The actual outcome: one for each caller, with the time and the calls that they took together.
pub(super) struct Actual {
    pub(super) outcomes: Vec<String>,
    pub(super) took: Duration,
    pub(super) calls: u64,
}

impl Actual {
    pub(super) fn check(&self, expected: &Cell, failure: Failure, column: &str) {
        let Self { outcomes, took, calls } = self;
        let what = format!("{failure:?}, {column}: {outcomes:?} after {took:?} and {calls} calls");
        assert_eq!(self.is_served(), expected.served, "{what}");
        assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]), "{what}");
        if outcomes[0].starts_with("503") {
            assert_eq!(outcomes[0], format!("503 for {} s", failure.retry_after()), "{what}");
        }
        assert!(expected.seconds.contains(&took.as_secs_f64()), "{what}");
        assert_eq!(*calls, expected.calls, "{what}");
    }

    pub(super) fn is_served(&self) -> bool {
        ["200", "a token"].contains(&&*self.outcomes[0])
    }

    pub(super) fn text(&self) -> String {
        format!("{}, {:.1} s, {} calls", self.outcomes[0], self.took.as_secs_f64(), self.calls)
    }
}
