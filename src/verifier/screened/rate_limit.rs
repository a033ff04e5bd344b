//! How many tokens a screen that cannot tell about them lets through.

use std::{
    collections::VecDeque,
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::lock::lock;

/// Enough for the callers who come with a new key's tokens before the screen has that key; little for an API server, whose
/// other clients ask more of it.
pub(super) const PASSES: usize = 64;
/// As long as `JwksVerifier` waits by default until it fetches keys for a token again, after which a new key is known.
pub(super) const WINDOW: Duration = Duration::from_secs(10);

/// When the last tokens were let through: at most [`PASSES`] in any time of the length of [`WINDOW`].
#[derive(Debug, Default)]
pub(super) struct Passes(Mutex<VecDeque<Instant>>);

impl Passes {
    /// Whether one more token may pass, which then counts.
    pub(super) fn take(&self, now: Instant) -> bool {
        let mut taken = lock(&self.0);
        while taken.front().is_some_and(|at| now.saturating_duration_since(*at) >= WINDOW) {
            taken.pop_front();
        }
        let is_left = taken.len() < PASSES;
        if is_left {
            taken.push_back(now);
        }
        is_left
    }
}
