//! What is right, independent of any verifier: what has happened to a token, and which answers that allows.
//!
//! Every question has an interval, from when it was sent to when it was answered, and what happens to a token has one too.
//! Where they touch, either answer may be right; where they do not, only one is.

use std::{
    sync::{Mutex, OnceLock},
    time::{Duration, Instant},
};

use crate::modes::Mode;

/// What the machine may take for whatever takes no time: watches of the API server that lag, a busy processor, whole seconds.
const SLACK: Duration = Duration::from_secs(2);
/// kube-apiserver serves an authenticated token from a cache of its own for so long, past its `exp` too
/// (`TokenSuccessCacheTTL`).
const SERVERS_CACHE: Duration = Duration::from_secs(10);
/// For so long, at most, a server that has failed is not asked where there is something to fall back on.
const LEFT_ALONE: Duration = Duration::from_secs(30);

/// The end of something: of a Pod, or of a key.
#[derive(Default)]
pub(crate) struct End {
    begun: OnceLock<Instant>,
    done: OnceLock<Instant>,
}

impl End {
    /// From now on it may be over.
    pub(crate) fn begin(&self) {
        let _ = self.begun.set(Instant::now());
    }

    /// It is over.
    pub(crate) fn finish(&self) {
        let _ = self.done.set(Instant::now());
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.begun.get().is_some()
    }

    fn had_begun_by(&self, at: Instant) -> bool {
        self.begun.get().is_some_and(|begun| *begun <= at)
    }

    fn was_done(&self, age: Duration, at: Instant) -> bool {
        self.done.get().is_some_and(|done| *done + age < at)
    }
}

/// A signing key of the cluster.
pub(crate) struct Key {
    /// When the server had it. Nothing is signed with it before.
    pub(crate) since: Instant,
    pub(crate) removal: End,
}

/// What is known about a token beyond its text.
pub(crate) struct Facts {
    /// No server and no service of ours may ever accept it.
    pub(crate) never_good: bool,
    /// Whether its key id is one that the cluster has, or had.
    pub(crate) known_key: bool,
    pub(crate) key: std::sync::Arc<Key>,
    pub(crate) pod: Option<std::sync::Arc<End>>,
    pub(crate) expires_at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Said {
    Accept,
    Reject,
    Undecided,
}

/// A question's time.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) sent: Instant,
    pub(crate) answered: Instant,
}

#[derive(Default)]
pub(crate) struct Oracle {
    outages: Mutex<Vec<End>>,
}

impl Oracle {
    /// The server is being taken down. It is up again when the returned closure is called.
    pub(crate) fn outage_begins(&self) {
        let outage = End::default();
        outage.begin();
        self.outages.lock().expect("no panic").push(outage);
    }

    pub(crate) fn outage_ends(&self) {
        if let Some(outage) = self.outages.lock().expect("no panic").last() {
            outage.finish();
        }
    }

    /// What is wrong with an answer.
    pub(crate) fn objection(
        &self,
        mode: &Mode,
        facts: &Facts,
        asked: Asked,
        said: Said,
    ) -> Option<&'static str> {
        match said {
            Said::Accept if facts.never_good => Some("wrong accept: it was never good"),
            Said::Accept => self.over_for_good(mode, facts, asked.sent),
            Said::Reject if facts.surely_good(mode.leeway, asked.answered) => {
                Some("wrong reject: it was good all the time")
            }
            Said::Reject => None,
            Said::Undecided if self.may_be_undecided(mode, facts, asked) => None,
            Said::Undecided => Some("undecided, though the server was up"),
        }
    }

    /// Whether the server was down at some time of the question, or not up for long enough: a verification that began while
    /// it was down may end as late as its time limit, and its outcome is everybody's who asked meanwhile.
    pub(crate) fn was_down(&self, asked: Asked, settling: Duration) -> bool {
        let outages = self.outages.lock().expect("no panic");
        outages.iter().any(|outage| {
            outage.had_begun_by(asked.answered) && !outage.was_done(settling, asked.sent)
        })
    }

    fn may_be_undecided(&self, mode: &Mode, facts: &Facts, asked: Asked) -> bool {
        let down = mode.asks_server && self.was_down(asked, mode.call_limit + SLACK);
        // A screen too, for it lets only so many unknown keys through to the server.
        let by_keys = mode.keys.filter(|_| !mode.falls_back);
        down || by_keys.is_some_and(|keys| {
            // Offline a known key is decided at once, whatever the server does. An unknown one may have been added a moment
            // ago, so it is undecided until the keys may be fetched again: after the fetch under way, a pause, and another.
            let fetched = keys.cooldown + mode.call_limit * 2 + SLACK;
            !facts.known_key
                || facts.key.removal.has_begun()
                || asked.sent < facts.key.since + fetched
        })
    }

    /// Why it could not be accepted any more when asked at `sent`. All of it is what the documentation promises.
    fn over_for_good(&self, mode: &Mode, facts: &Facts, sent: Instant) -> Option<&'static str> {
        let cached = mode.cache_ttl.mul_f64(1.1);
        // The server's word may take as long as a call until it is in our cache.
        let servers_word = SERVERS_CACHE + mode.call_limit + cached + SLACK;

        // Nothing of ours is served past `exp`; whoever is asked tolerates clocks that differ.
        let expired = if mode.asks_server { SERVERS_CACHE + SLACK } else { SLACK };
        if facts.expires_at + mode.leeway + expired < sent {
            return Some("wrong accept: it had expired");
        }
        // Offline nobody sees a Pod being deleted: the token is good until it expires.
        let offline = !mode.asks_server
            || mode.falls_back
                && self.was_down(Asked { sent, answered: sent }, servers_word + LEFT_ALONE);
        if !offline && facts.pod.as_ref().is_some_and(|pod| pod.was_done(servers_word, sent)) {
            return Some("wrong accept: its Pod had been deleted");
        }
        let forgotten = match mode.keys {
            // A restarted server knows nothing of the key; only our own cache does.
            None => cached + SLACK,
            // The fetch that was under way fails, then comes the next one, in its own time.
            Some(keys) => keys.refresh_interval.mul_f64(1.1) + mode.call_limit * 2 + cached + SLACK,
        };
        facts
            .key
            .removal
            .was_done(forgotten, sent)
            .then_some("wrong accept: its key had been removed")
    }
}

impl Facts {
    /// Whether nothing had happened to the token by `answered`.
    pub(crate) fn surely_good(&self, leeway: Duration, answered: Instant) -> bool {
        !self.never_good
            && answered + Duration::from_secs(1) < self.expires_at + leeway
            && !self.key.removal.had_begun_by(answered)
            && !self.pod.as_ref().is_some_and(|pod| pod.had_begun_by(answered))
    }
}
