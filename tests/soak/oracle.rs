//! The correct answers, independent of any verifier: the history of a token, and what it allows.
//!
//! A request has an interval, from sending to answer, and so does each event of a token. If they
//! overlap, either answer is correct; if not, only one is.

use std::{
    collections::HashMap,
    sync::{Mutex, OnceLock},
    time::{Duration, Instant},
};

use crate::services::Service;

/// Tolerance for lagging watches of the API server, a busy processor, and times in whole seconds.
const SLACK: Duration = Duration::from_secs(2);
/// kube-apiserver caches an authenticated token for this long, even past its `exp`
/// (`TokenSuccessCacheTTL`).
const SERVERS_CACHE: Duration = Duration::from_secs(10);
/// Upper bound of the time for which an open circuit breaker skips a failed server.
const LEFT_ALONE: Duration = Duration::from_secs(30);

/// The removal of a Pod or a key.
#[derive(Default)]
pub(crate) struct End {
    begun: OnceLock<Instant>,
    done: OnceLock<Instant>,
}

impl End {
    /// Marks that the removal has begun: from now on it may have taken effect.
    pub(crate) fn begin(&self) {
        let _ = self.begun.set(Instant::now());
    }

    /// Marks that the removal is complete.
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
    /// When the server got the key. Nothing is signed with it before.
    pub(crate) since: Instant,
    pub(crate) removal: End,
}

/// The history of a token.
pub(crate) struct Facts {
    /// Whether it must never be accepted.
    pub(crate) never_good: bool,
    /// Whether the cluster has, or had, a key with its key id.
    pub(crate) known_key: bool,
    pub(crate) key: std::sync::Arc<Key>,
    pub(crate) pod: Option<std::sync::Arc<End>>,
    pub(crate) expires_at: Instant,
    /// When each service that asks the server first rejected the token because of its Pod.
    pub(crate) rejections: Mutex<HashMap<&'static str, Instant>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Decision {
    Accept,
    Reject,
    Undecided,
}

/// The interval of a request.
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
    /// Marks that the server is being taken down, until [`outage_ends`](Self::outage_ends).
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

    /// Returns what is wrong with an answer.
    pub(crate) fn objection(
        &self,
        service: &Service,
        facts: &Facts,
        asked: Asked,
        decision: Decision,
    ) -> Option<&'static str> {
        match decision {
            Decision::Accept if facts.never_good => Some("wrong accept: never valid"),
            // Not even by a fallback, which does not see the Pod.
            Decision::Accept if facts.was_rejected(service, asked.sent) => {
                Some("wrong accept: rejected before, since its Pod was deleted")
            }
            Decision::Accept => self.expired_or_revoked(service, facts, asked.sent),
            Decision::Reject if facts.certainly_valid(service.leeway, asked.answered) => {
                Some("wrong reject: valid all the time")
            }
            Decision::Reject => {
                facts.note_rejection(service, asked.answered);
                None
            }
            Decision::Undecided if self.may_be_undecided(service, facts, asked) => None,
            Decision::Undecided => Some("undecided, though the server was up"),
        }
    }

    /// Returns whether the server was down during the request, or up for less than `settling`: a
    /// verification that began during the outage may end as late as its time limit, and requests
    /// that joined it share its outcome.
    pub(crate) fn was_down(&self, asked: Asked, settling: Duration) -> bool {
        let outages = self.outages.lock().expect("no panic");
        outages.iter().any(|outage| {
            outage.had_begun_by(asked.answered) && !outage.was_done(settling, asked.sent)
        })
    }

    fn may_be_undecided(&self, service: &Service, facts: &Facts, asked: Asked) -> bool {
        let down = service.asks_server && self.was_down(asked, service.call_limit + SLACK);
        // Includes a screen, because it limits the unknown keys that it passes to the server.
        let by_keys = service.keys.is_some_and(|keys| {
            // JWKS decides a known key at once. An unknown key may be new, so it is undecided until
            // the keys are fetched again: the fetch in progress, a cooldown, and another fetch.
            let fetched = keys.cooldown + service.call_limit * 2 + SLACK;
            !facts.known_key
                || facts.key.removal.has_begun()
                || asked.sent < facts.key.since + fetched
        });
        // A fallback decides what the server does not, from the first moment of an outage on, but
        // does not accept what the server rejected.
        let is_revoked = facts.pod.as_ref().is_some_and(|pod| pod.had_begun_by(asked.answered));
        if service.falls_back { down && (by_keys || is_revoked) } else { down || by_keys }
    }

    /// Returns why the token had to be rejected at `sent`, by the documented bounds.
    fn expired_or_revoked(
        &self,
        service: &Service,
        facts: &Facts,
        sent: Instant,
    ) -> Option<&'static str> {
        let cached = service.cache_ttl.mul_f64(1.1);
        // The server's answer may take as long as a call until it is cached here.
        let review_is_stale = SERVERS_CACHE + service.call_limit + cached + SLACK;

        // This crate serves nothing past `exp`; the verifiers tolerate clock skew.
        let expired = if service.asks_server { SERVERS_CACHE + SLACK } else { SLACK };
        if facts.expires_at + service.leeway + expired < sent {
            return Some("wrong accept: it had expired");
        }
        // JWKS does not notice a deleted Pod: the token is valid until it expires.
        let offline = !service.asks_server
            || service.falls_back
                && self.was_down(Asked { sent, answered: sent }, review_is_stale + LEFT_ALONE);
        if !offline && facts.pod.as_ref().is_some_and(|pod| pod.was_done(review_is_stale, sent)) {
            return Some("wrong accept: its Pod had been deleted");
        }
        let key_is_stale = match service.keys {
            // A restarted server does not know the key; only the cache of this crate may.
            None => cached + SLACK,
            // The fetch in progress fails, and the next one follows at its interval.
            Some(keys) => {
                keys.refresh_interval.mul_f64(1.1) + service.call_limit * 2 + cached + SLACK
            }
        };
        facts
            .key
            .removal
            .was_done(key_is_stale, sent)
            .then_some("wrong accept: its key had been removed")
    }
}

impl Facts {
    fn note_rejection(&self, service: &Service, at: Instant) {
        let is_revoked = self.pod.as_ref().is_some_and(|pod| pod.was_done(Duration::ZERO, at));
        if service.asks_server && is_revoked {
            self.rejections.lock().expect("no panic").entry(service.name).or_insert(at);
        }
    }

    fn was_rejected(&self, service: &Service, sent: Instant) -> bool {
        let rejections = self.rejections.lock().expect("no panic");
        rejections.get(service.name).is_some_and(|rejected| *rejected < sent)
    }

    /// Returns whether the token was certainly valid at `answered`.
    pub(crate) fn certainly_valid(&self, leeway: Duration, answered: Instant) -> bool {
        !self.never_good
            && answered + Duration::from_secs(1) < self.expires_at + leeway
            && !self.key.removal.had_begun_by(answered)
            && !self.pod.as_ref().is_some_and(|pod| pod.had_begun_by(answered))
    }
}
