//! Cached acceptances: read from a lock-free map, bounded in size and time by moka.
//!
//! A read of moka costs more than the rest of a hit, because it is recorded in a log. So moka holds
//! only a stamp per entry and decides what to evict; hits read the entries from a map beside it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use moka::sync::Cache;
use papaya::HashMap;

use super::{
    digest::{Digest, DigestHasher},
    entry::{Entry, Hit, Stamp},
    lifetimes::Lifetime,
};
use crate::{clock::Clock, identity::ServiceAccountIdentity};

/// Invariant: every entry of the map has its stamp in moka, except while an insertion or an
/// eviction is under way, so the map is bounded by moka's capacity. It holds under concurrency,
/// because
///
/// - an entry enters the map before its stamp enters moka, so no eviction precedes its entry;
/// - an eviction (by size, time, removal or replacement) removes only the entry with *that* stamp,
///   so it cannot remove a successor.
///
/// A stamp without an entry costs one verification and is replaced by the next insertion.
pub(super) struct AcceptedCache {
    entries: Arc<HashMap<Digest, Entry, DigestHasher>>,
    stamps: Cache<Digest, Stamp, DigestHasher>,
    next_stamp: AtomicU64,
}

impl AcceptedCache {
    pub(super) fn new(capacity: u64, longest_lifetime: Duration) -> Self {
        let entries = Arc::new(HashMap::with_hasher(DigestHasher::default()));
        let evicting = Arc::clone(&entries);
        let stamps = Cache::builder()
            .max_capacity(capacity)
            .time_to_live(longest_lifetime)
            .eviction_listener(move |digest: Arc<Digest>, evicted, _| {
                // An error means that the entry has a newer stamp.
                let _ =
                    evicting.pin().remove_if(&*digest, |_, entry: &Entry| entry.stamp == evicted);
            })
            .build_with_hasher(DigestHasher::default());
        Self { entries, stamps, next_stamp: AtomicU64::new(0) }
    }

    /// Returns the entry while it is fresh by both clocks.
    #[inline]
    pub(super) fn get(&self, digest: &Digest, clock: &Clock) -> Option<Hit> {
        let hit = self.entries.pin().get(digest)?.hit(clock)?;
        if hit.is_touch_due {
            self.touch(digest);
        }
        Some(hit)
    }

    /// Applies `read` to the entry, fresh or not.
    pub(super) fn peek<T>(&self, digest: &Digest, read: impl FnOnce(&Entry) -> T) -> Option<T> {
        self.entries.pin().get(digest).map(read)
    }

    /// Records a use in moka, at most once a second per entry: precise enough for its eviction
    /// policy.
    #[cold]
    fn touch(&self, digest: &Digest) {
        let _ = self.stamps.get(digest);
    }

    pub(super) fn insert(
        &self,
        digest: Digest,
        identity: ServiceAccountIdentity,
        began: Instant,
        lifetime: Lifetime,
    ) {
        let stamp = self.next_stamp.fetch_add(1, Ordering::Relaxed);
        // moka admits an entry to a full cache by its read frequency.
        self.touch(&digest);
        self.entries.pin().insert(digest, Entry::new(identity, stamp, began, lifetime));
        self.stamps.insert(digest, stamp);
    }

    /// Removes an entry from the map, then its stamp.
    pub(super) fn remove(&self, digest: &Digest) {
        if self.entries.pin().remove(digest).is_some() {
            self.stamps.invalidate(digest);
        }
    }

    /// Removes all entries that match.
    pub(super) fn remove_matching(
        &self,
        matches: impl Fn(&Digest, &ServiceAccountIdentity) -> bool,
    ) {
        for (digest, entry) in &self.entries.pin() {
            if matches(digest, &entry.identity) {
                self.remove(digest);
            }
        }
    }

    /// Returns the number of entries, including expired ones that are not evicted yet.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
impl AcceptedCache {
    /// Returns the number of entries after moka's pending maintenance.
    pub(super) fn len_after_maintenance(&self) -> usize {
        self.stamps.run_pending_tasks();
        self.len()
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
        clock: ManualClock,
        identity: ServiceAccountIdentity,
    }

    impl Fixture {
        fn with_capacity(capacity: u64) -> Self {
            let key = DigestKey::random().unwrap();
            let identity = IdentityBuilder::new("ns", "sa").build();
            Self {
                cache: AcceptedCache::new(capacity, MINUTE),
                key,
                clock: ManualClock::new(),
                identity,
            }
        }

        fn insert(&self, name: &str) {
            let now = self.clock.clock().monotonic();
            self.cache.insert(
                self.digest(name),
                self.identity.clone(),
                now,
                Lifetime { fresh: MINUTE, refresh_after: MINUTE, grace: Duration::ZERO },
            );
        }

        fn digest(&self, name: &str) -> Digest {
            self.key.digest(name.as_bytes())
        }

        fn has(&self, name: &str) -> bool {
            self.cache.get(&self.digest(name), &self.clock.clock()).is_some()
        }

        fn is_consistent(&self) -> bool {
            let stamps: Vec<_> =
                self.cache.stamps.iter().map(|(digest, stamp)| (*digest, stamp)).collect();
            let entries = self.cache.entries.pin();
            stamps.iter().all(|(digest, stamp)| {
                entries.get(digest).is_none_or(|entry| entry.stamp == *stamp)
            })
        }
    }

    #[test]
    fn what_moka_evicts_leaves_the_map() {
        let fixture = Fixture::with_capacity(100);
        for number in 0..10_000 {
            fixture.insert(&number.to_string());
        }
        assert_eq!(fixture.cache.len_after_maintenance(), 100);
        assert_eq!(fixture.cache.stamps.entry_count(), 100);
        assert!(fixture.is_consistent());
    }

    #[test]
    fn the_map_is_bounded_before_mokas_maintenance() {
        let fixture = Fixture::with_capacity(100);
        for number in 0..10_000 {
            fixture.insert(&number.to_string());
            assert!(fixture.cache.entries.len() <= 100 + 1_000, "moka's log of writes is bounded");
        }
    }

    #[test]
    fn an_entry_outlives_the_eviction_of_the_one_it_replaced() {
        let fixture = Fixture::with_capacity(100);
        for _ in 0..10 {
            fixture.insert("a");
            assert!(fixture.has("a"));
        }
        assert_eq!(fixture.cache.len_after_maintenance(), 1);
    }

    #[test]
    fn an_entry_whose_stamp_is_lost_leaves_the_map() {
        let fixture = Fixture::with_capacity(100);
        fixture.insert("a");
        fixture.cache.stamps.invalidate(&fixture.digest("a"));
        assert!(!fixture.has("a"));
        assert_eq!(fixture.cache.len_after_maintenance(), 0);
    }

    #[test]
    fn a_removed_entry_leaves_map_and_moka_and_can_be_inserted_again() {
        let fixture = Fixture::with_capacity(100);
        ["a", "b", "c"].iter().for_each(|name| fixture.insert(name));
        fixture.cache.remove(&fixture.digest("a"));
        assert!(!fixture.has("a") && fixture.has("b"));
        assert_eq!(fixture.cache.len_after_maintenance(), 2);
        fixture.insert("a");
        fixture.cache.remove_matching(|_, identity| identity.name() == "other");
        assert_eq!(fixture.cache.len_after_maintenance(), 3);
        fixture.cache.remove_matching(|_, identity| identity.name() == "sa");
        assert_eq!(fixture.cache.len_after_maintenance(), 0);
        assert_eq!(fixture.cache.stamps.entry_count(), 0);
    }

    #[test]
    fn entries_in_use_survive_a_flood_of_new_ones() {
        let fixture = Fixture::with_capacity(100);
        let useds: Vec<_> = (0..60).map(|number| format!("used {number}")).collect();
        useds.iter().for_each(|used| fixture.insert(used));
        let mut lost = 0;
        for second in 0..20 {
            for used in useds.iter().filter(|used| !fixture.has(used)) {
                fixture.insert(used);
                lost += 1;
            }
            fixture.cache.stamps.run_pending_tasks();
            if second >= 5 {
                (0..100).for_each(|number| fixture.insert(&format!("new {second} {number}")));
            }
            fixture.clock.advance(Duration::from_secs(1));
        }
        // moka's frequencies are estimates: under some digest keys two tokens share one.
        assert!(lost <= 12, "{lost} of 900 lookups");
        assert!(fixture.cache.len_after_maintenance() <= 100);
    }

    #[test]
    fn map_and_moka_are_consistent_after_concurrent_use_of_the_same_tokens() {
        let fixture = Fixture::with_capacity(50);
        thread::scope(|scope| {
            for thread in 0..4 {
                let fixture = &fixture;
                scope.spawn(move || {
                    for turn in 0..20_000_usize {
                        let name = (turn * (thread + 3) % 80).to_string();
                        if turn % 3 == 0 || !fixture.has(&name) {
                            fixture.insert(&name);
                        } else if turn % 7 == 0 {
                            fixture.cache.remove(&fixture.digest(&name));
                        }
                    }
                });
            }
        });
        assert!(fixture.cache.len_after_maintenance() <= 50);
        assert!(fixture.is_consistent());
        assert!(fixture.cache.entries.len() as u64 <= fixture.cache.stamps.entry_count());
    }
}
