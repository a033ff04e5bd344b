//! Cached decisions, accepted and rejected ones apart.

#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use moka::sync::Cache;

use super::{
    accepted_cache::AcceptedCache,
    digest::{Digest, DigestHasher, DigestKey, DigestWriter},
    entry::Hit,
    invalidations::{Invalidation, InvalidationSubject, Invalidations, VerificationStart},
    lifetimes::Lifetimes,
};
use crate::{
    clock::Clock,
    identity::ServiceAccountIdentity,
    sync_point::sync_point,
    verdict::{Acceptance, RejectReason, Verdict},
};

/// Upper bound for the pause after a failed background verification.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// Holds acceptances and rejections in two caches, so that a flood of invalid tokens never evicts
/// an accepted one.
///
/// Every read checks the lifetime against the injected clock; moka's own expiry only frees memory.
pub(crate) struct VerdictCache {
    key: DigestKey,
    accepted: AcceptedCache,
    rejected: Cache<Digest, Rejected, DigestHasher>,
    lifetimes: Lifetimes,
    invalidations: Invalidations,
    remaining: Option<Remaining>,
    clock: Clock,
}

/// Returns for how long the objects of an identity last, as far as is known. `None` once one of them
/// is gone.
pub(super) type Remaining =
    Arc<dyn Fn(&ServiceAccountIdentity, SystemTime) -> Option<Duration> + Send + Sync>;

#[derive(Clone, Copy)]
struct Rejected {
    reason: RejectReason,
    fresh_until: Instant,
}

/// Upper bounds for the number of entries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacities {
    pub(crate) accepted: u64,
    pub(crate) rejected: u64,
}

impl VerdictCache {
    pub(crate) fn new(
        capacities: Capacities,
        lifetimes: Lifetimes,
        clock: Clock,
    ) -> Result<Self, NoRandomness> {
        let rejected = Cache::builder()
            .max_capacity(capacities.rejected)
            .time_to_live(lifetimes.max_rejected());
        Ok(Self {
            key: DigestKey::random().ok_or(NoRandomness)?,
            accepted: AcceptedCache::new(capacities.accepted, lifetimes.max_accepted()),
            rejected: rejected.build_with_hasher(DigestHasher::default()),
            lifetimes,
            invalidations: Invalidations::default(),
            remaining: None,
            clock,
        })
    }

    /// Ends acceptances with the objects of their identity. `remaining` is called under a lock.
    #[cfg(feature = "watch")]
    pub(super) fn limited_by(mut self, remaining: Remaining) -> Self {
        self.remaining = Some(remaining);
        self
    }

    /// Returns what [`limited_by`](Self::limited_by) was given.
    pub(super) fn remaining(&self) -> Option<&Remaining> {
        self.remaining.as_ref()
    }

    #[inline]
    pub(crate) fn digest(&self, token: &[u8]) -> Digest {
        self.key.digest(token)
    }

    pub(crate) fn digest_of(&self, write: impl FnOnce(&mut DigestWriter)) -> Digest {
        self.key.digest_of(write)
    }

    /// Returns the identity of a fresh acceptance.
    #[inline]
    pub(crate) fn accepted(&self, digest: &Digest) -> Option<Hit> {
        self.accepted.get(digest, &self.clock)
    }

    pub(crate) fn rejected(&self, digest: &Digest) -> Option<RejectReason> {
        let entry = self.rejected.get(digest)?;
        (self.clock.monotonic() < entry.fresh_until).then_some(entry.reason)
    }

    pub(crate) fn get(&self, digest: &Digest) -> Option<Verdict> {
        if let Some(hit) = self.accepted(digest) {
            return Some(Verdict::Accept(Acceptance::new(hit.identity)));
        }
        self.rejected(digest).map(Verdict::Reject)
    }

    /// Claims the background verification of an accepted token: true for one caller per attempt.
    pub(crate) fn claim_refresh(&self, digest: &Digest) -> bool {
        let now = self.clock.monotonic();
        self.accepted.peek(digest, |entry| entry.claim_attempt(now)).unwrap_or(false)
    }

    /// Notes that an accepted token could not be verified anew. Returns its identity while it is
    /// fresh or within its grace period.
    pub(crate) fn after_failure(
        &self,
        digest: &Digest,
        pause: Option<Duration>,
    ) -> Option<ServiceAccountIdentity> {
        let (now, pause) = (self.clock.monotonic(), pause.unwrap_or_default().min(MAX_PAUSE));
        self.accepted.peek(digest, |entry| {
            entry.note_failure(now, pause);
            entry.within_grace(&self.clock)
        })?
    }

    /// Returns the identity of an acceptance within its grace period, if a verification of it
    /// failed recently.
    pub(crate) fn stale(&self, digest: &Digest) -> Option<ServiceAccountIdentity> {
        if self.lifetimes.stale.is_zero() {
            return None;
        }
        let now = self.clock.monotonic();
        self.accepted.peek(digest, |entry| {
            entry.has_failed_recently(now).then(|| entry.within_grace(&self.clock))?
        })?
    }

    /// Whether there is an acceptance, fresh or not.
    pub(crate) fn contains(&self, digest: &Digest) -> bool {
        self.accepted.peek(digest, |_| ()).is_some()
    }

    /// Marks the start of a verification, for [`insert`](Self::insert).
    pub(crate) fn now(&self) -> VerificationStart {
        self.invalidations.read().start(self.clock.monotonic())
    }

    /// Caches a verdict, unless its token was invalidated since the verification `began`.
    pub(crate) fn insert(&self, digest: Digest, verdict: &Verdict, began: VerificationStart) {
        match verdict {
            Verdict::Accept(acceptance) => self.insert_accepted(digest, acceptance, began),
            Verdict::Reject(reason) => self.insert_rejected(digest, *reason, began),
        }
    }

    fn insert_accepted(&self, digest: Digest, acceptance: &Acceptance, began: VerificationStart) {
        let identity = acceptance.identity();
        let elapsed = self.clock.monotonic().saturating_duration_since(began.at);
        let mut lifetime = self.lifetimes.accepted(identity, self.clock.wall(), elapsed);
        if let Some(limit) = acceptance.max_cached() {
            lifetime = lifetime.fresh_up_to(elapsed.saturating_add(limit));
        }
        let (log, subject) =
            (self.invalidations.read(), InvalidationSubject::accepted(&digest, identity));
        if log.any_since(began, &subject) {
            return;
        }
        if let Some(end) = log.unsettled_until(began, &subject) {
            lifetime = lifetime.up_to(end.saturating_duration_since(began.at));
        }
        // Under the log's lock: `drop_ended` finds what is inserted before it waits for the lock.
        if let Some(remaining) = &self.remaining {
            match remaining(identity, self.clock.wall()) {
                Some(Duration::MAX) => {}
                Some(left) => lifetime = lifetime.up_to(elapsed.saturating_add(left)),
                None => return,
            }
        }
        if lifetime.fresh <= elapsed {
            return;
        }
        self.accepted.insert(digest, identity.clone(), began.at, lifetime);
        // A fallback decides while the verifier is still asked: the verifier's rejection wins,
        // whichever comes first.
        if identity.is_from_fallback() && self.rejected(&digest).is_some() {
            self.accepted.remove(&digest);
        }
    }

    fn insert_rejected(&self, digest: Digest, reason: RejectReason, began: VerificationStart) {
        let log = self.invalidations.read();
        if let Some(lifetime) = self.lifetimes.rejected()
            && !log.any_since(began, &InvalidationSubject::rejected(&digest))
        {
            self.rejected.insert(
                digest,
                Rejected { reason, fresh_until: self.clock.monotonic() + lifetime },
            );
        }
        self.accepted.remove(&digest);
    }

    /// Drops acceptances whose end, or its date, the function of [`limited_by`](Self::limited_by)
    /// knows by now. It keeps later ones from being inserted.
    #[cfg(feature = "watch")]
    pub(super) fn drop_ended(&self, has_ended: impl Fn(&ServiceAccountIdentity) -> bool) {
        sync_point();
        self.invalidations.wait_for_readers();
        sync_point();
        self.accepted.remove_matching(|_, identity| has_ended(identity));
    }

    fn drop_accepted(&self, invalidation: &Invalidation) {
        self.accepted.remove_matching(|digest, identity| {
            invalidation.applies_to(&InvalidationSubject::accepted(digest, identity))
        });
    }

    /// Drops decisions, and those of verifications that have begun but not ended.
    pub(crate) fn invalidate(&self, invalidation: &Invalidation) {
        self.invalidations.push(self.clock.monotonic(), invalidation.clone());
        sync_point();
        match invalidation {
            Invalidation::Key(digest) => {
                self.accepted.remove(digest);
                self.rejected.invalidate(digest);
            }
            Invalidation::All => {
                self.accepted.remove_matching(|_, _| true);
                self.rejected.invalidate_all();
            }
            _ => self.drop_accepted(invalidation),
        }
    }

    /// Returns the approximate number of accepted and of rejected entries.
    pub(crate) fn len(&self) -> (u64, u64) {
        (self.accepted.len() as u64, self.rejected.entry_count())
    }
}

/// The operating system gave no random bytes for the digest key.
#[derive(Debug)]
pub(crate) struct NoRandomness;
