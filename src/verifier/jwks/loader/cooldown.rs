//! How often unknown key ids may lead to a fetch, and which of them the last such fetch did not bring.

use std::time::{Duration, Instant};

use super::WAITING_FOR_NEWER;

/// Begins with the end of a fetch that a token caused. The first load, the background refresh and an operator's refresh say
/// nothing about how often tokens may ask.
pub(super) struct Cooldown {
    length: Duration,
    under_way: Option<Search>,
    last: Option<(Instant, Vec<Box<str>>)>,
}

/// A fetch that a token caused, and the key ids that were asked for before it began. Those that it does not bring are unknown
/// to the issuer.
struct Search {
    fetch: u64,
    key_ids: Vec<Box<str>>,
}

impl Cooldown {
    pub(super) fn new(length: Duration) -> Self {
        Self { length, under_way: None, last: None }
    }

    /// A token causes this fetch. Callers have seen to it that nothing is [`left`](Self::left).
    pub(super) fn begin(&mut self, fetch: u64, key_id: &str) {
        self.under_way = Some(Search { fetch, key_ids: vec![key_id.into()] });
    }

    /// A token waits for the fetch under way. If it came before that began, the fetch was for its key id too.
    pub(super) fn join(&mut self, arrival: u64, key_id: &str) {
        if let Some(Search { fetch, key_ids }) = &mut self.under_way
            && *fetch > arrival
            && key_ids.len() < WAITING_FOR_NEWER
            && !key_ids.iter().any(|known| **known == *key_id)
        {
            key_ids.push(key_id.into());
        }
    }

    /// A fetch has ended. `is_there` tells of its keys; `None` if it brought none.
    pub(super) fn end(&mut self, now: Instant, is_there: Option<impl Fn(&str) -> bool>) {
        let Some(Search { mut key_ids, .. }) = self.under_way.take() else { return };
        match is_there {
            Some(is_there) => key_ids.retain(|key_id| !is_there(key_id)),
            None => key_ids.clear(),
        }
        self.last = Some((now, key_ids));
    }

    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        let (ended, _) = self.last.as_ref()?;
        super::left(*ended, self.length, now)
    }

    /// Whether the last fetch was for this key id and did not bring it, a moment ago.
    pub(super) fn is_known_missing(&self, key_id: &str, now: Instant) -> bool {
        self.left(now).is_some()
            && self
                .last
                .as_ref()
                .is_some_and(|(_, missing)| missing.iter().any(|known| **known == *key_id))
    }
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
    fn what_was_asked_for_before_the_fetch_and_not_brought_is_lacking_until_the_cooldown_is_over() {
        let (mut cooldown, now) = (Cooldown::new(LENGTH), Clock::system().monotonic());
        cooldown.begin(7, "first");
        cooldown.join(6, "brought");
        cooldown.join(6, "early");
        cooldown.join(7, "late");
        assert!(!cooldown.is_known_missing("first", now), "it is still being looked for");
        cooldown.end(now, Some(|key_id: &str| key_id == "brought"));
        let lacking = |at| {
            ["first", "brought", "early", "late"]
                .map(|key_id| cooldown.is_known_missing(key_id, at))
        };
        assert_eq!(lacking(now), [true, false, true, false]);
        assert_eq!(cooldown.left(now), Some(LENGTH));
        assert_eq!((lacking(now + LENGTH), cooldown.left(now + LENGTH)), ([false; 4], None));
    }

    #[test]
    fn a_fetch_that_failed_says_nothing_about_any_key_but_counts() {
        let (mut cooldown, now) = (Cooldown::new(LENGTH), Clock::system().monotonic());
        cooldown.begin(1, "a");
        cooldown.end(now, None::<fn(&str) -> bool>);
        assert_eq!(
            (cooldown.is_known_missing("a", now), cooldown.left(now)),
            (false, Some(LENGTH))
        );
    }

    #[test]
    fn a_fetch_that_no_token_caused_starts_no_cooldown_and_forgets_nothing() {
        let (mut cooldown, now) = (Cooldown::new(LENGTH), Clock::system().monotonic());
        cooldown.join(0, "a");
        cooldown.end(now, Some(never));
        assert_eq!((cooldown.is_known_missing("a", now), cooldown.left(now)), (false, None));
        cooldown.begin(2, "a");
        cooldown.end(now, Some(never));
        cooldown.end(now + LENGTH / 2, Some(never));
        assert!(cooldown.is_known_missing("a", now + LENGTH / 2));
        assert_eq!(cooldown.left(now + LENGTH / 2), Some(LENGTH / 2));
    }

    #[test]
    fn no_more_key_ids_are_remembered_than_tokens_may_wait() {
        let (mut cooldown, now) = (Cooldown::new(LENGTH), Clock::system().monotonic());
        cooldown.begin(1, "0");
        for number in 0..10 * WAITING_FOR_NEWER {
            cooldown.join(0, &number.to_string());
        }
        cooldown.end(now, Some(never));
        assert_eq!(cooldown.last.unwrap().1.len(), WAITING_FOR_NEWER);
    }
}
