//! The accepted tokens: read from a lock-free map, and bounded in number and time by moka.
//!
//! moka's own reads cost more than all the rest of a hit together, because each is written to a log. So moka keeps only a
//! stamp for each entry and decides which stays; the entries themselves lie in a map beside it, where a hit finds them.

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

    /// The entry, unless its time is over by either clock.
    #[inline]
    pub(super) fn get(&self, digest: &Digest, clock: &Clock) -> Option<Hit> {
        let (hit, is_touch_due) = self.entries.pin().get(digest)?.hit(clock)?;
        if is_touch_due {
            self.touch(digest);
        }
        Some(hit)
    }

    /// What `look` makes of the entry, fresh or not.
    pub(super) fn peek<T>(&self, digest: &Digest, look: impl FnOnce(&Entry) -> T) -> Option<T> {
        self.entries.pin().get(digest).map(look)
    }

    /// Lets moka know that the entry is in use. What is used every second counts more than what is used now and then; that is
    /// all that its choice of whom to evict needs.
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
        // moka admits a newcomer to a full cache by how often it was asked for, and only its reads count.
        self.touch(&digest);
        self.entries.pin().insert(digest, Entry::new(identity, stamp, began, lifetime));
        self.stamps.insert(digest, stamp);
    }

    /// Removes an entry from the map at once; its stamp follows.
    pub(super) fn remove(&self, digest: &Digest) {
        if self.entries.pin().remove(digest).is_some() {
            self.stamps.invalidate(digest);
        }
    }

    /// The same, for all that are meant.
    pub(super) fn remove_those(
        &self,
        are_meant: impl Fn(&Digest, &ServiceAccountIdentity) -> bool,
    ) {
        for (digest, entry) in &self.entries.pin() {
            if are_meant(digest, &entry.identity) {
                self.remove(digest);
            }
        }
    }

    /// How many entries there are, those included whose time is over but whose room is not needed yet.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
impl AcceptedCache {
    /// How many entries the map has, once moka has done what it had put off.
    pub(super) fn settled_len(&self) -> usize {
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

        fn agree(&self) -> bool {
            let stamps: Vec<_> =
                self.cache.stamps.iter().map(|(digest, stamp)| (*digest, stamp)).collect();
            let entries = self.cache.entries.pin();
            stamps.iter().all(|(digest, stamp)| {
                entries.get(digest).is_none_or(|entry| entry.stamp == *stamp)
            })
        }
    }

    #[test]
    fn what_moka_lets_go_leaves_the_map() {
        let fixture = Fixture::with_capacity(100);
        for number in 0..10_000 {
            fixture.insert(&number.to_string());
        }
        assert_eq!(fixture.cache.settled_len(), 100);
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
        assert_eq!(fixture.cache.settled_len(), 1);
    }

    #[test]
    fn an_entry_of_which_moka_knows_nothing_is_not_there_for_long() {
        let fixture = Fixture::with_capacity(100);
        fixture.insert("a");
        fixture.cache.stamps.invalidate(&fixture.digest("a"));
        assert!(!fixture.has("a"));
        assert_eq!(fixture.cache.settled_len(), 0);
    }

    #[test]
    fn what_is_removed_is_gone_from_both_and_can_come_again() {
        let fixture = Fixture::with_capacity(100);
        ["a", "b", "c"].iter().for_each(|name| fixture.insert(name));
        fixture.cache.remove(&fixture.digest("a"));
        assert!(!fixture.has("a") && fixture.has("b"));
        assert_eq!(fixture.cache.settled_len(), 2);
        fixture.insert("a");
        fixture.cache.remove_those(|_, identity| identity.name() == "other");
        assert_eq!(fixture.cache.settled_len(), 3);
        fixture.cache.remove_those(|_, identity| identity.name() == "sa");
        assert_eq!(fixture.cache.settled_len(), 0);
        assert_eq!(fixture.cache.stamps.entry_count(), 0);
    }

    #[test]
    fn callers_in_use_stay_when_strangers_come() {
        let fixture = Fixture::with_capacity(100);
        let regulars: Vec<_> = (0..60).map(|number| format!("regular {number}")).collect();
        regulars.iter().for_each(|regular| fixture.insert(regular));
        let mut lost = 0;
        for second in 0..20 {
            for regular in regulars.iter().filter(|regular| !fixture.has(regular)) {
                fixture.insert(regular);
                lost += 1;
            }
            fixture.cache.stamps.run_pending_tasks();
            if second >= 5 {
                (0..100).for_each(|number| fixture.insert(&format!("stranger {second} {number}")));
            }
            fixture.clock.advance(Duration::from_secs(1));
        }
        // moka's counts of use are estimates: under some keys two tokens share them.
        assert!(lost <= 12, "{lost} of 900 looks");
        assert!(fixture.cache.settled_len() <= 100);
    }

    #[test]
    fn map_and_moka_agree_after_threads_have_replaced_evicted_removed_and_read_the_same_tokens() {
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
        assert!(fixture.cache.settled_len() <= 50);
        assert!(fixture.agree());
        assert!(fixture.cache.entries.len() as u64 <= fixture.cache.stamps.entry_count());
    }
}
