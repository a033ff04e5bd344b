//! The rate limit of tokens that a screen cannot decide about.

use std::{
    collections::VecDeque,
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::lock::lock;

/// Tokens in a window. Enough for the callers with tokens of a new key that the screen does not
/// have yet; little load for an API server.
pub(super) const MAX_TOKENS: usize = 64;
/// The default `unknown_key_cooldown` of `JwksVerifier`, after which a new key is known.
pub(super) const WINDOW: Duration = Duration::from_secs(10);

/// Lets at most [`MAX_TOKENS`] through in any [`WINDOW`]. Holds the times at which it did.
#[derive(Debug, Default)]
pub(super) struct RateLimit(Mutex<VecDeque<Instant>>);

impl RateLimit {
    /// Returns whether one more token may pass, and counts it if so.
    pub(super) fn try_acquire(&self, now: Instant) -> bool {
        let mut taken = lock(&self.0);
        while taken.front().is_some_and(|at| now.saturating_duration_since(*at) >= WINDOW) {
            taken.pop_front();
        }
        let is_left = taken.len() < MAX_TOKENS;
        if is_left {
            taken.push_back(now);
        }
        is_left
    }
}
