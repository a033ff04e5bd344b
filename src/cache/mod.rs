//! Decisions that were made before: found by a keyed digest of the token, bounded in number and in time.

mod accepted;
mod digest;
mod flight;
mod lifetimes;

use std::time::Instant;

use moka::sync::Cache;

use crate::{
    clock::Clock,
    identity::ServiceAccountIdentity,
    verdict::{Acceptance, Reason, Verdict},
};

use accepted::AcceptedCache;
pub(crate) use digest::Digest;
use digest::{DigestHasher, DigestKey};
pub(crate) use flight::{Flights, Follower, Joined, Leader};
pub(crate) use lifetimes::Lifetimes;

/// Two caches, so that a flood of junk can never evict an accepted caller.
///
/// The lifetimes are checked here, on every read, against the injected clock; moka's own expiry only frees the memory.
pub(crate) struct VerdictCache {
    key: DigestKey,
    accepted: AcceptedCache,
    rejected: Cache<Digest, Rejected, DigestHasher>,
    lifetimes: Lifetimes,
    clock: Clock,
}

#[derive(Clone, Copy)]
struct Rejected {
    reason: Reason,
    fresh_until: Instant,
}

/// How many decisions of each kind are kept at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacities {
    pub(crate) accepted: u64,
    pub(crate) rejected: u64,
}

impl VerdictCache {
    pub(crate) fn new(capacities: Capacities, lifetimes: Lifetimes, clock: Clock) -> Result<Self, NoRandomness> {
        let rejected = Cache::builder().max_capacity(capacities.rejected).time_to_live(lifetimes.longest_rejected());
        Ok(Self {
            key: DigestKey::random().ok_or(NoRandomness)?,
            accepted: AcceptedCache::new(capacities.accepted, lifetimes.longest_accepted()),
            rejected: rejected.build_with_hasher(DigestHasher::default()),
            lifetimes,
            clock,
        })
    }

    #[inline]
    pub(crate) fn digest(&self, token: &[u8]) -> Digest {
        self.key.digest(token)
    }

    /// The identity that was accepted for this token, unless its time is over by either clock.
    #[inline]
    pub(crate) fn accepted(&self, digest: &Digest) -> Option<ServiceAccountIdentity> {
        self.accepted.get(digest, &self.clock)
    }

    pub(crate) fn get(&self, digest: &Digest) -> Option<Verdict> {
        if let Some(identity) = self.accepted(digest) {
            return Some(Verdict::Accept(Acceptance::new(identity)));
        }
        let entry = self.rejected.get(digest)?;
        (self.clock.monotonic() < entry.fresh_until).then_some(Verdict::Reject(entry.reason))
    }

    pub(crate) fn insert(&self, digest: Digest, verdict: &Verdict) {
        let now = self.clock.monotonic();
        match verdict {
            Verdict::Accept(acceptance) => {
                let identity = acceptance.identity().clone();
                if let Some(lifetime) = self.lifetimes.accepted(identity.expires_at(), self.clock.wall()) {
                    self.accepted.insert(digest, identity, now + lifetime);
                }
            }
            Verdict::Reject(reason) => {
                if let Some(lifetime) = self.lifetimes.rejected() {
                    self.rejected.insert(digest, Rejected { reason: *reason, fresh_until: now + lifetime });
                }
            }
        }
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

    fn cache(hands: &ManualClock) -> VerdictCache {
        let lifetimes = Lifetimes { accepted: MINUTE, rejected: MINUTE / 6 };
        VerdictCache::new(Capacities { accepted: 100, rejected: 10 }, lifetimes, hands.clock()).unwrap()
    }

    fn digest(cache: &VerdictCache, token: &str) -> Digest {
        cache.digest(token.as_bytes())
    }

    fn accept(identity: IdentityBuilder) -> Verdict {
        Verdict::Accept(Acceptance::new(identity.build()))
    }

    #[test]
    fn an_accepted_entry_ends_with_its_ttl() {
        let hands = ManualClock::new();
        let cache = cache(&hands);
        let key = digest(&cache, "a");
        cache.insert(key, &accept(IdentityBuilder::new("ns", "sa")));
        hands.advance(MINUTE * 9 / 10 - Duration::from_millis(1));
        assert!(cache.accepted(&key).is_some());
        hands.advance(MINUTE * 2 / 10 + Duration::from_millis(2));
        assert!(cache.accepted(&key).is_none());
    }

    #[test]
    fn nothing_is_served_past_exp_though_the_ttl_is_not_over() {
        let hands = ManualClock::new();
        let cache = cache(&hands);
        let key = digest(&cache, "a");
        let expiry = hands.clock().wall() + Duration::from_secs(20);
        cache.insert(key, &accept(IdentityBuilder::new("ns", "sa").expires_at(expiry)));
        hands.advance(Duration::from_millis(19_999));
        assert!(cache.accepted(&key).is_some());
        hands.advance(Duration::from_millis(1));
        assert!(cache.accepted(&key).is_none());
    }

    #[test]
    fn a_wall_clock_that_is_set_forward_past_exp_ends_the_entry_and_one_set_back_does_not_prolong_the_ttl() {
        let hands = ManualClock::new();
        let cache = cache(&hands);
        let (short, long) = (digest(&cache, "a"), digest(&cache, "b"));
        let expiry = hands.clock().wall() + MINUTE * 30;
        cache.insert(short, &accept(IdentityBuilder::new("ns", "sa").expires_at(expiry)));
        cache.insert(long, &accept(IdentityBuilder::new("ns", "sa").expires_at(expiry)));
        hands.jump_forward(MINUTE * 60);
        assert!(cache.accepted(&short).is_none());
        hands.jump_back(MINUTE * 120);
        assert!(cache.accepted(&long).is_some());
        hands.advance(MINUTE * 12 / 10);
        assert!(cache.accepted(&long).is_none(), "the TTL runs on the monotonic clock");
    }

    #[test]
    fn rejected_entries_have_their_own_time_and_room() {
        let hands = ManualClock::new();
        let cache = cache(&hands);
        let good = digest(&cache, "good");
        cache.insert(good, &accept(IdentityBuilder::new("ns", "sa")));
        for junk in 0..10_000 {
            cache.insert(digest(&cache, &format!("junk{junk}")), &Verdict::Reject(Reason::Signature));
        }
        cache.rejected.run_pending_tasks();
        assert!(cache.rejected.entry_count() <= 10, "bounded");
        assert!(cache.accepted(&good).is_some(), "a flood evicts nobody who was accepted");

        let last = digest(&cache, "last");
        cache.rejected.invalidate_all();
        cache.rejected.run_pending_tasks();
        cache.insert(last, &Verdict::Reject(Reason::Signature));
        assert_eq!(cache.get(&last), Some(Verdict::Reject(Reason::Signature)));
        hands.advance(MINUTE / 5);
        assert_eq!(cache.get(&last), None);
    }

    #[test]
    fn a_ttl_of_zero_keeps_nothing() {
        let hands = ManualClock::new();
        let lifetimes = Lifetimes { accepted: Duration::ZERO, rejected: Duration::ZERO };
        let cache = VerdictCache::new(Capacities { accepted: 9, rejected: 9 }, lifetimes, hands.clock()).unwrap();
        let key = digest(&cache, "a");
        cache.insert(key, &accept(IdentityBuilder::new("ns", "sa")));
        cache.insert(key, &Verdict::Reject(Reason::Signature));
        assert_eq!(cache.get(&key), None);
        assert_eq!(cache.accepted.len() + cache.rejected.iter().count(), 0);
    }
}
