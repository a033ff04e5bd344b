//! The accepted tokens: read from a lock-free map, and bounded in number and time by moka.
//!
//! moka's own reads cost more than all the rest of a hit together, because each is written to a log. So moka keeps only a
//! stamp for each entry and decides which stays; the entries themselves lie in a map beside it, where a hit finds them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use moka::sync::Cache;
use papaya::HashMap;

use super::digest::{Digest, DigestHasher};
use crate::{clock::Clock, identity::ServiceAccountIdentity};

/// Every entry has its stamp in moka, or is about to get it there, or has just lost it: the map is never the larger one.
/// That holds whatever threads do at once, because
///
/// - an entry is in the map before its stamp is in moka, so the stamp cannot go before the entry has come;
/// - whoever loses a stamp (evicted, refused, expired, replaced) removes the entry of *that* stamp only, so that the end of an
///   old one does not take its successor with it.
///
/// The other way round, a stamp without an entry, costs a verification and ends with the next one.
pub(super) struct AcceptedCache {
    entries: Arc<HashMap<Digest, Entry, DigestHasher>>,
    stamps: Cache<Digest, Stamp, DigestHasher>,
    next_stamp: AtomicU64,
}

type Stamp = u64;

struct Entry {
    identity: ServiceAccountIdentity,
    fresh_until: Instant,
    /// The identity's own, at hand without a second look into memory.
    expires_at: Option<SystemTime>,
    stamp: Stamp,
    /// The last second, counted down to `fresh_until`, in which moka was told of a use.
    told: AtomicU32,
}

impl AcceptedCache {
    pub(super) fn new(capacity: u64, longest_lifetime: Duration) -> Self {
        let entries = Arc::new(HashMap::with_hasher(DigestHasher::default()));
        let losing = Arc::clone(&entries);
        let stamps = Cache::builder()
            .max_capacity(capacity)
            .time_to_live(longest_lifetime)
            .eviction_listener(move |digest: Arc<Digest>, lost, _| {
                // An error says that the entry has another stamp by now.
                let _ = losing.pin().remove_if(&*digest, |_, entry: &Entry| entry.stamp == lost);
            })
            .build_with_hasher(DigestHasher::default());
        Self { entries, stamps, next_stamp: AtomicU64::new(0) }
    }

    /// The identity of an entry, unless its time is over by either clock.
    #[inline]
    pub(super) fn get(&self, digest: &Digest, clock: &Clock) -> Option<ServiceAccountIdentity> {
        let (identity, tell) = self.look(digest, clock)?;
        if tell {
            self.tell(digest);
        }
        Some(identity)
    }

    /// No lock, no allocation and no write but the reference count, save for one word once a second.
    #[inline]
    fn look(&self, digest: &Digest, clock: &Clock) -> Option<(ServiceAccountIdentity, bool)> {
        let entries = self.entries.pin();
        let entry = entries.get(digest)?;
        let left = entry.fresh_until.checked_duration_since(clock.monotonic()).filter(|left| !left.is_zero())?;
        if entry.expires_at.is_some_and(|expiry| expiry <= clock.wall()) {
            return None;
        }
        let second = u32::try_from(left.as_secs()).unwrap_or(u32::MAX);
        let tell = entry.told.load(Ordering::Relaxed) != second;
        if tell {
            entry.told.store(second, Ordering::Relaxed);
        }
        Some((entry.identity.clone(), tell))
    }

    /// Lets moka know that the entry is in use. What is used every second counts more than what is used now and then; that is
    /// all that its choice of whom to evict needs.
    #[cold]
    fn tell(&self, digest: &Digest) {
        let _ = self.stamps.get(digest);
    }

    pub(super) fn insert(&self, digest: Digest, identity: ServiceAccountIdentity, fresh_until: Instant) {
        let stamp = self.next_stamp.fetch_add(1, Ordering::Relaxed);
        // moka admits a newcomer to a full cache by how often it was asked for, and only its reads count.
        self.tell(&digest);
        let (expires_at, told) = (identity.expires_at(), AtomicU32::new(u32::MAX));
        self.entries.pin().insert(digest, Entry { identity, fresh_until, expires_at, stamp, told });
        self.stamps.insert(digest, stamp);
    }
}

#[cfg(test)]
impl AcceptedCache {
    /// How many entries the map has, once moka has done what it had put off.
    pub(super) fn len(&self) -> usize {
        self.stamps.run_pending_tasks();
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::{cache::digest::DigestKey, clock::manual::ManualClock, testing::IdentityBuilder};

    const MINUTE: Duration = Duration::from_secs(60);

    struct Fixture {
        cache: AcceptedCache,
        key: DigestKey,
        hands: ManualClock,
        identity: ServiceAccountIdentity,
    }

    impl Fixture {
        fn with_capacity(capacity: u64) -> Self {
            let key = DigestKey::random().unwrap();
            let identity = IdentityBuilder::new("ns", "sa").build();
            Self { cache: AcceptedCache::new(capacity, MINUTE), key, hands: ManualClock::new(), identity }
        }

        fn insert(&self, name: &str) {
            let fresh_until = self.hands.clock().monotonic() + MINUTE;
            self.cache.insert(self.key.digest(name.as_bytes()), self.identity.clone(), fresh_until);
        }

        fn has(&self, name: &str) -> bool {
            self.cache.get(&self.key.digest(name.as_bytes()), &self.hands.clock()).is_some()
        }

        fn agree(&self) -> bool {
            let stamps: Vec<_> = self.cache.stamps.iter().map(|(digest, stamp)| (*digest, stamp)).collect();
            let entries = self.cache.entries.pin();
            stamps.iter().all(|(digest, stamp)| entries.get(digest).is_none_or(|entry| entry.stamp == *stamp))
        }
    }

    #[test]
    fn what_moka_lets_go_leaves_the_map() {
        let fixture = Fixture::with_capacity(100);
        for number in 0..10_000 {
            fixture.insert(&number.to_string());
        }
        assert_eq!(fixture.cache.len(), 100);
        assert_eq!(fixture.cache.stamps.entry_count(), 100);
        assert!(fixture.agree());
    }

    #[test]
    fn the_map_is_bounded_while_moka_has_not_got_to_it_yet() {
        let fixture = Fixture::with_capacity(100);
        for number in 0..10_000 {
            fixture.insert(&number.to_string());
            assert!(fixture.cache.entries.len() <= 100 + 1_000, "moka's log of writes is bounded");
        }
    }

    #[test]
    fn a_successor_outlives_the_entry_that_it_replaces() {
        let fixture = Fixture::with_capacity(100);
        for _ in 0..10 {
            fixture.insert("a");
            assert!(fixture.has("a"));
        }
        assert_eq!(fixture.cache.len(), 1);
    }

    #[test]
    fn an_entry_of_which_moka_knows_nothing_is_not_there_for_long() {
        let fixture = Fixture::with_capacity(100);
        fixture.insert("a");
        fixture.cache.stamps.invalidate(&fixture.key.digest(b"a"));
        assert!(!fixture.has("a"));
        assert_eq!(fixture.cache.len(), 0);
    }

    #[test]
    fn callers_in_use_stay_when_strangers_come() {
        let fixture = Fixture::with_capacity(100);
        let regulars: Vec<_> = (0..60).map(|number| format!("regular {number}")).collect();
        regulars.iter().for_each(|regular| fixture.insert(regular));
        for second in 0..20 {
            assert!(regulars.iter().all(|regular| fixture.has(regular)), "second {second}");
            fixture.cache.stamps.run_pending_tasks();
            if second >= 5 {
                (0..100).for_each(|number| fixture.insert(&format!("stranger {second} {number}")));
            }
            fixture.hands.advance(Duration::from_secs(1));
        }
        assert!(fixture.cache.len() <= 100);
    }

    #[test]
    fn map_and_moka_agree_after_threads_have_replaced_evicted_and_read_the_same_tokens() {
        let fixture = Fixture::with_capacity(50);
        thread::scope(|scope| {
            for thread in 0..4 {
                let fixture = &fixture;
                scope.spawn(move || {
                    for turn in 0..20_000_usize {
                        let name = (turn * (thread + 3) % 80).to_string();
                        if turn % 3 == 0 || !fixture.has(&name) {
                            fixture.insert(&name);
                        }
                    }
                });
            }
        });
        assert!(fixture.cache.len() <= 50);
        assert!(fixture.agree());
        assert!(fixture.cache.entries.len() as u64 <= fixture.cache.stamps.entry_count());
    }
}
