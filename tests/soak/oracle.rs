//! The correct answers, independent of any verifier: what the history of a token allows.
//!
//! A request has an interval, from sending to answer, and so does each event of a token. If they
//! overlap, either answer is correct; if not, only one is.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::{
    facts::{Asked, Decision, End, Facts, Pod},
    services::Service,
    watch_history::WatchHistory,
};

/// Tolerance for lagging watches of the API server, a busy processor, and times in whole seconds.
pub(crate) const SLACK: Duration = Duration::from_secs(2);
/// kube-apiserver caches an authenticated token for this long, even past its `exp`
/// (`TokenSuccessCacheTTL`).
const SERVERS_CACHE: Duration = Duration::from_secs(10);
/// Upper bound of the time for which an open circuit breaker skips a failed server.
const LEFT_ALONE: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(crate) struct Oracle {
    outages: Mutex<Vec<End>>,
    pub(crate) watches: Arc<WatchHistory>,
    /// For how long each service that watches accepted what it could know to be deleted.
    late: Mutex<BTreeMap<&'static str, Duration>>,
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
            Decision::Accept => {
                self.note_lateness(service, facts, asked.sent);
                self.expired_or_revoked(service, facts, asked.sent)
            }
            Decision::Reject if facts.certainly_valid(service.leeway, asked.answered) => {
                Some("wrong reject: valid all the time")
            }
            Decision::Reject => {
                if self.fallback_knows_key(service, facts, asked.answered) {
                    facts.note_rejection(service, asked.answered);
                }
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
        if service.watches {
            // A watch decides about the objects that it has seen, until it is silent for too long.
            let is_unseen = |pod: &Pod| !self.watches.shows_creation(pod, asked.sent);
            let is_unseen = facts.pod.as_deref().is_some_and(is_unseen);
            let by_watch = is_unseen || self.watches.is_stale(asked);
            return by_keys || by_watch && (down || !service.asks_server);
        }
        // A fallback decides what the server does not, from the first moment of an outage on, but
        // does not accept what the server rejected.
        let is_revoked = facts.is_revoked(asked.answered);
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
        let shows_deletion = |pod: &Pod| self.shows_deletion(service, pod, review_is_stale, sent);
        if facts.pod.as_deref().is_some_and(shows_deletion) {
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

    /// Returns whether the deletion of `pod` must be known at `sent`. A TokenReview shows it after
    /// `review_is_stale`.
    fn shows_deletion(
        &self,
        service: &Service,
        pod: &Pod,
        review_is_stale: Duration,
        sent: Instant,
    ) -> bool {
        let is_reviewed = pod.removal.was_done(review_is_stale, sent);
        if service.watches {
            // A watch does not report the deletion of what it has never seen.
            let by_watch = !service.asks_server || self.watches.shows_creation(pod, sent);
            return self.watches.shows_deletion(pod, sent) && (by_watch || is_reviewed);
        }
        // JWKS does not notice a deleted Pod: the token is valid until it expires.
        let leeway = review_is_stale + LEFT_ALONE;
        let offline = !service.asks_server
            || service.falls_back && self.was_down(Asked { sent, answered: sent }, leeway);
        !offline && is_reviewed
    }

    /// Returns whether a fallback to JWKS certainly had the token's key at `at`. Without it, it
    /// cannot say that it would accept what the verifier rejects, and that is not remembered.
    fn fallback_knows_key(&self, service: &Service, facts: &Facts, at: Instant) -> bool {
        let Some(keys) = service.keys.filter(|_| service.falls_back) else { return true };
        // The fetch in progress, which is one of the service's two calls, and the next one.
        let loaded = keys.refresh_interval.mul_f64(1.1) + service.call_limit / 2 + SLACK;
        let loading = Asked { sent: facts.key.since, answered: facts.key.since + loaded };
        loading.answered < at && !self.was_down(loading, Duration::ZERO)
    }

    fn note_lateness(&self, service: &Service, facts: &Facts, sent: Instant) {
        let late = facts.pod.as_ref().filter(|_| service.watches);
        if let Some(late) = late.and_then(|pod| self.watches.late(pod, sent)) {
            let mut longest = self.late.lock().expect("no panic");
            let longest = longest.entry(service.name).or_default();
            *longest = late.max(*longest);
        }
    }
}

/// Shows how late the services that watch noticed deletions.
impl fmt::Display for Oracle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "last acceptance after a deletion, while the watch was open:")?;
        let late = self.late.lock().expect("no panic");
        late.iter()
            .try_for_each(|(service, late)| write!(f, "\n  {service}: {:.3} s", late.as_secs_f64()))
    }
}
