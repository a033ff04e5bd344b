//! The cooldown of fetches that unknown key ids trigger, and the key ids that the last such fetch
//! did not bring.

use std::time::{Duration, Instant};

use crate::verifier::jwks::key_snapshot::FetchSequence;

/// Upper bound for the tokens with an unknown key id that wait for a fetch at once. Each holds a
/// permit of the authenticator's limit, which made-up key ids must not take from known keys.
pub(super) const MAX_WAITING: usize = 16;

/// Begins with the end of a fetch that a token triggered. Internal fetches (first load, periodic
/// refresh, operator) start none, because an attacker cannot multiply them.
pub(super) struct Cooldown {
    length: Duration,
    search: Option<Search>,
    /// When the last search ended, and the key ids that it did not find.
    last: Option<(Instant, Vec<Box<str>>)>,
}

/// A fetch that a token triggered, and the key ids that were requested before it began. The issuer
/// does not have those that the fetch does not bring.
struct Search {
    fetch: u64,
    key_ids: Vec<Box<str>>,
}

impl Cooldown {
    pub(super) fn new(length: Duration) -> Self {
        Self { length, search: None, last: None }
    }

    /// Records that a token triggers this fetch. Nothing may be [`remaining`](Self::remaining).
    pub(super) fn begin(&mut self, fetch: u64, key_id: &str) {
        self.search = Some(Search { fetch, key_ids: vec![key_id.into()] });
    }

    /// Records that a token waits for the fetch under way. If the token arrived before the fetch
    /// began, the fetch also searches for its key id.
    pub(super) fn join(&mut self, FetchSequence(arrival): FetchSequence, key_id: &str) {
        if let Some(Search { fetch, key_ids }) = &mut self.search
            && *fetch > arrival
            && key_ids.len() < MAX_WAITING
            && !key_ids.iter().any(|known| **known == *key_id)
        {
            key_ids.push(key_id.into());
        }
    }

    /// Records the end of a fetch. `is_loaded` tells which keys it brought; `None` if it failed.
    pub(super) fn end(&mut self, now: Instant, is_loaded: Option<impl Fn(&str) -> bool>) {
        let Some(Search { mut key_ids, .. }) = self.search.take() else { return };
        match is_loaded {
            Some(is_loaded) => key_ids.retain(|key_id| !is_loaded(key_id)),
            None => key_ids.clear(),
        }
        self.last = Some((now, key_ids));
    }

    pub(super) fn remaining(&self, now: Instant) -> Option<Duration> {
        let (ended, _) = self.last.as_ref()?;
        remaining(*ended, self.length, now)
    }

    /// Whether the last search was for this key id, did not find it, and is within the cooldown.
    pub(super) fn is_known_missing(&self, key_id: &str, now: Instant) -> bool {
        self.remaining(now).is_some()
            && self
                .last
                .as_ref()
                .is_some_and(|(_, missing)| missing.iter().any(|known| **known == *key_id))
    }
}

/// Returns what remains of a pause of this `length`; `None` if it is over.
pub(super) fn remaining(since: Instant, length: Duration, now: Instant) -> Option<Duration> {
    let passed = now.saturating_duration_since(since);
    length.checked_sub(passed).filter(|remaining| !remaining.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    const LENGTH: Duration = Duration::from_secs(10);

    fn never(_: &str) -> bool {
        false
    }

    #[test]
    fn key_ids_that_a_fetch_did_not_bring_are_missing_until_the_cooldown_ends() {
        let (mut cooldown, now) = (Cooldown::new(LENGTH), Clock::system().monotonic());
        cooldown.begin(7, "first");
        cooldown.join(FetchSequence(6), "brought");
        cooldown.join(FetchSequence(6), "early");
        cooldown.join(FetchSequence(7), "late");
        assert!(!cooldown.is_known_missing("first", now), "the fetch is under way");
        cooldown.end(now, Some(|key_id: &str| key_id == "brought"));
        let missing = |at| {
            ["first", "brought", "early", "late"]
                .map(|key_id| cooldown.is_known_missing(key_id, at))
        };
        assert_eq!(missing(now), [true, false, true, false]);
        assert_eq!(cooldown.remaining(now), Some(LENGTH));
        assert_eq!((missing(now + LENGTH), cooldown.remaining(now + LENGTH)), ([false; 4], None));
    }

    #[test]
    fn a_failed_fetch_starts_the_cooldown_and_marks_no_key_missing() {
        let (mut cooldown, now) = (Cooldown::new(LENGTH), Clock::system().monotonic());
        cooldown.begin(1, "a");
        cooldown.end(now, None::<fn(&str) -> bool>);
        assert_eq!(
            (cooldown.is_known_missing("a", now), cooldown.remaining(now)),
            (false, Some(LENGTH))
        );
    }

    #[test]
    fn an_internal_fetch_starts_no_cooldown_and_clears_no_missing_key() {
        let (mut cooldown, now) = (Cooldown::new(LENGTH), Clock::system().monotonic());
        cooldown.join(FetchSequence(0), "a");
        cooldown.end(now, Some(never));
        assert_eq!((cooldown.is_known_missing("a", now), cooldown.remaining(now)), (false, None));
        cooldown.begin(2, "a");
        cooldown.end(now, Some(never));
        cooldown.end(now + LENGTH / 2, Some(never));
        assert!(cooldown.is_known_missing("a", now + LENGTH / 2));
        assert_eq!(cooldown.remaining(now + LENGTH / 2), Some(LENGTH / 2));
    }

    #[test]
    fn at_most_as_many_key_ids_are_kept_as_tokens_may_wait() {
        let (mut cooldown, now) = (Cooldown::new(LENGTH), Clock::system().monotonic());
        cooldown.begin(1, "0");
        for number in 0..10 * MAX_WAITING {
            cooldown.join(FetchSequence(0), &number.to_string());
        }
        cooldown.end(now, Some(never));
        assert_eq!(cooldown.last.unwrap().1.len(), MAX_WAITING);
    }
}
