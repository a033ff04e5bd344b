//! Cached decisions, accepted and rejected ones apart.

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
            Verdict::Accept(acceptance) => {
                self.insert_accepted(digest, acceptance.identity(), began)
            }
            Verdict::Reject(reason) => self.insert_rejected(digest, *reason, began),
        }
    }

    fn insert_accepted(
        &self,
        digest: Digest,
        identity: &ServiceAccountIdentity,
        began: VerificationStart,
    ) {
        let elapsed = self.clock.monotonic().saturating_duration_since(began.at);
        let mut lifetime = self.lifetimes.accepted(identity, self.clock.wall(), elapsed);
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
    pub(super) fn drop_ended(&self, ended: &Invalidation) {
        sync_point();
        self.invalidations.wait_for_readers();
        sync_point();
        self.drop_accepted(ended);
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{clock::manual::ManualClock, testing::IdentityBuilder};

    const MINUTE: Duration = Duration::from_secs(60);

    fn cache(clock: &ManualClock) -> VerdictCache {
        let lifetimes = Lifetimes { accepted: MINUTE, rejected: MINUTE / 6, stale: Duration::ZERO };
        VerdictCache::new(Capacities { accepted: 100, rejected: 10 }, lifetimes, clock.clock())
            .unwrap()
    }

    fn digest(cache: &VerdictCache, token: &str) -> Digest {
        cache.digest(token.as_bytes())
    }

    fn insert(cache: &VerdictCache, key: Digest, verdict: &Verdict) {
        cache.insert(key, verdict, cache.now());
    }

    fn accept(identity: IdentityBuilder) -> Verdict {
        Verdict::Accept(Acceptance::new(identity.build()))
    }

    #[test]
    fn an_accepted_entry_ends_with_its_ttl() {
        let clock = ManualClock::new();
        let cache = cache(&clock);
        let key = digest(&cache, "a");
        insert(&cache, key, &accept(IdentityBuilder::new("ns", "sa")));
        clock.advance(MINUTE * 9 / 10 - Duration::from_millis(1));
        assert!(cache.accepted(&key).is_some());
        clock.advance(MINUTE * 2 / 10 + Duration::from_millis(2));
        assert!(cache.accepted(&key).is_none());
    }

    #[test]
    fn nothing_is_served_past_exp_within_the_ttl() {
        let clock = ManualClock::new();
        let cache = cache(&clock);
        let key = digest(&cache, "a");
        let expiry = clock.clock().wall() + Duration::from_secs(20);
        insert(&cache, key, &accept(IdentityBuilder::new("ns", "sa").expires_at(expiry)));
        clock.advance(Duration::from_millis(19_999));
        assert!(cache.accepted(&key).is_some());
        clock.advance(Duration::from_millis(1));
        assert!(cache.accepted(&key).is_none());
    }

    #[test]
    fn a_wall_clock_jump_past_exp_ends_an_entry_and_a_jump_back_prolongs_no_ttl() {
        let clock = ManualClock::new();
        let cache = cache(&clock);
        let (short, long) = (digest(&cache, "a"), digest(&cache, "b"));
        let expiry = clock.clock().wall() + MINUTE * 30;
        insert(&cache, short, &accept(IdentityBuilder::new("ns", "sa").expires_at(expiry)));
        insert(&cache, long, &accept(IdentityBuilder::new("ns", "sa").expires_at(expiry)));
        clock.jump_forward(MINUTE * 60);
        assert!(cache.accepted(&short).is_none());
        clock.jump_back(MINUTE * 120);
        assert!(cache.accepted(&long).is_some());
        clock.advance(MINUTE * 12 / 10);
        assert!(cache.accepted(&long).is_none(), "the TTL runs on the monotonic clock");
    }

    #[test]
    fn rejected_entries_have_their_own_ttl_and_capacity() {
        let clock = ManualClock::new();
        let cache = cache(&clock);
        let good = digest(&cache, "good");
        insert(&cache, good, &accept(IdentityBuilder::new("ns", "sa")));
        for number in 0..10_000 {
            insert(
                &cache,
                digest(&cache, &format!("invalid {number}")),
                &Verdict::Reject(RejectReason::Signature),
            );
        }
        cache.rejected.run_pending_tasks();
        assert!(cache.rejected.entry_count() <= 10, "bounded");
        assert!(cache.accepted(&good).is_some(), "a flood of rejections evicts no acceptance");

        let last = digest(&cache, "last");
        cache.rejected.invalidate_all();
        cache.rejected.run_pending_tasks();
        insert(&cache, last, &Verdict::Reject(RejectReason::Signature));
        assert_eq!(cache.get(&last), Some(Verdict::Reject(RejectReason::Signature)));
        clock.advance(MINUTE / 5);
        assert_eq!(cache.get(&last), None);
    }

    #[test]
    fn a_ttl_of_zero_caches_nothing() {
        let clock = ManualClock::new();
        let lifetimes =
            Lifetimes { accepted: Duration::ZERO, rejected: Duration::ZERO, stale: Duration::ZERO };
        let cache =
            VerdictCache::new(Capacities { accepted: 9, rejected: 9 }, lifetimes, clock.clock())
                .unwrap();
        let key = digest(&cache, "a");
        insert(&cache, key, &accept(IdentityBuilder::new("ns", "sa")));
        insert(&cache, key, &Verdict::Reject(RejectReason::Signature));
        assert_eq!(cache.get(&key), None);
        assert_eq!(cache.accepted.len() + cache.rejected.iter().count(), 0);
    }

    #[test]
    fn an_acceptance_by_a_fallback_has_no_grace_period() {
        let clock = ManualClock::new();
        let lifetimes = Lifetimes { accepted: MINUTE, rejected: MINUTE, stale: MINUTE };
        let cache =
            VerdictCache::new(Capacities { accepted: 9, rejected: 9 }, lifetimes, clock.clock())
                .unwrap();
        let (own, fallback) = (digest(&cache, "own"), digest(&cache, "fallback"));
        insert(&cache, own, &accept(IdentityBuilder::new("ns", "sa")));
        insert(&cache, fallback, &accept(IdentityBuilder::new("ns", "sa").from_fallback()));
        clock.advance(MINUTE * 11 / 10);
        assert!(cache.after_failure(&own, None).is_some());
        assert!(cache.after_failure(&fallback, None).is_none());
    }

    #[test]
    fn a_rejection_outlives_a_concurrent_acceptance_by_a_fallback() {
        let cache = cache(&ManualClock::new());
        let key = digest(&cache, "a");
        let (rejected, accepted) = (
            Verdict::Reject(RejectReason::Unauthenticated),
            accept(IdentityBuilder::new("ns", "sa").from_fallback()),
        );
        for verdicts in [[&rejected, &accepted], [&accepted, &rejected]] {
            verdicts.into_iter().for_each(|verdict| insert(&cache, key, verdict));
            assert_eq!(cache.get(&key), Some(rejected.clone()));
            cache.invalidate(&Invalidation::All);
        }
    }

    #[test]
    fn the_ttl_runs_from_the_start_of_the_verification() {
        let clock = ManualClock::new();
        let cache = cache(&clock);
        let (slow, slower, key) = (
            digest(&cache, "slow"),
            digest(&cache, "slower"),
            accept(IdentityBuilder::new("ns", "sa")),
        );
        let began = cache.now();
        clock.advance(MINUTE / 2);
        cache.insert(slow, &key, began);
        assert!(cache.accepted(&slow).is_some());
        clock.advance(MINUTE * 6 / 10);
        assert!(cache.accepted(&slow).is_none());
        cache.insert(slower, &key, began);
        assert!(cache.accepted(&slower).is_none());
    }

    #[test]
    fn a_verdict_overtaken_by_an_invalidation_is_not_cached() {
        let cache = cache(&ManualClock::new());
        let (key, other) = (digest(&cache, "a"), digest(&cache, "b"));
        for verdict in
            [accept(IdentityBuilder::new("ns", "sa")), Verdict::Reject(RejectReason::Signature)]
        {
            let began = cache.now();
            cache.invalidate(&Invalidation::Key(key));
            cache.insert(key, &verdict, began);
            cache.insert(other, &verdict, began);
            assert_eq!((cache.get(&key), cache.get(&other)), (None, Some(verdict)));
            cache.invalidate(&Invalidation::All);
        }
    }
}
