//! The history of a token, its Pod and its key, and what was asked about it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use crate::services::Service;

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

    pub(crate) fn done(&self) -> Option<Instant> {
        self.done.get().copied()
    }

    pub(crate) fn had_begun_by(&self, at: Instant) -> bool {
        self.begun.get().is_some_and(|begun| *begun <= at)
    }

    pub(crate) fn was_done(&self, age: Duration, at: Instant) -> bool {
        self.done.get().is_some_and(|done| *done + age < at)
    }
}

/// A signing key of the cluster.
pub(crate) struct Key {
    /// When the server got the key. Nothing is signed with it before.
    pub(crate) since: Instant,
    pub(crate) removal: End,
}

/// A Pod that tokens are bound to.
pub(crate) struct Pod {
    /// When the server had it.
    pub(crate) created: Instant,
    pub(crate) removal: End,
}

/// The history of a token.
pub(crate) struct Facts {
    /// Whether it must never be accepted.
    pub(crate) never_good: bool,
    /// Whether the cluster has, or had, a key with its key id.
    pub(crate) known_key: bool,
    pub(crate) key: Arc<Key>,
    pub(crate) pod: Option<Arc<Pod>>,
    pub(crate) expires_at: Instant,
    /// When each service that sees deletions first rejected the token because of its Pod.
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

impl Facts {
    pub(crate) fn note_rejection(&self, service: &Service, at: Instant) {
        let is_done = |pod: &Pod| pod.removal.was_done(Duration::ZERO, at);
        if (service.asks_server || service.watches) && self.pod.as_deref().is_some_and(is_done) {
            self.rejections.lock().expect("no panic").entry(service.name).or_insert(at);
        }
    }

    pub(crate) fn is_revoked(&self, at: Instant) -> bool {
        self.pod.as_ref().is_some_and(|pod| pod.removal.had_begun_by(at))
    }

    pub(crate) fn was_rejected(&self, service: &Service, sent: Instant) -> bool {
        let rejections = self.rejections.lock().expect("no panic");
        rejections.get(service.name).is_some_and(|rejected| *rejected < sent)
    }

    /// Returns whether the token was certainly valid at `answered`.
    pub(crate) fn certainly_valid(&self, leeway: Duration, answered: Instant) -> bool {
        !self.never_good
            && answered + Duration::from_secs(1) < self.expires_at + leeway
            && !self.key.removal.had_begun_by(answered)
            && !self.is_revoked(answered)
    }
}
