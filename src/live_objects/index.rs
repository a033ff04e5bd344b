//! The objects of one watch by name: UID and time of deletion, in 48 bytes each.

use std::{
    collections::{HashMap, HashSet, VecDeque, hash_map::RandomState},
    hash::{BuildHasher, BuildHasherDefault, Hash, Hasher},
    time::{Duration, SystemTime},
};

use super::{liveness::Liveness, uid::Uid};

/// Number of deleted objects that are remembered. Older ones are unknown again.
const DELETED: usize = 32_768;

/// Objects that were seen, by name.
///
/// A name is kept as a keyed digest of 128 bits, which is a third of its size. Nobody without the
/// keys, which are new in each process, can choose names that collide; and an object counts as live
/// only if its UID is the claimed one, so a collision could not revive one.
#[derive(Default)]
pub(super) struct Index {
    keys: (RandomState, RandomState),
    objects: HashMap<Name, Object, BuildHasherDefault<NameHasher>>,
    /// Deleted objects, oldest first.
    deleted: VecDeque<(Name, Uid)>,
    /// Those of them whose name another object has.
    replaced: HashSet<Uid>,
    /// The number of the latest listing.
    listing: u32,
    /// Whether a listing was complete.
    is_listed: bool,
    live: usize,
}

/// The digest of a namespace and a name.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Name(u64, u64);

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

struct Object {
    uid: Uid,
    phase: Phase,
    /// The latest listing or the one before the event in which the object was seen.
    listing: u32,
}

/// Whether an object is live, being deleted or gone, in four bytes: 0, the seconds of its
/// `deletionTimestamp`, or the largest value.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Phase(u32);

impl Phase {
    const LIVE: Self = Self(0);
    const DELETED: Self = Self(u32::MAX);

    fn deleting(since: SystemTime) -> Self {
        let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(u32::try_from(since.as_secs()).unwrap_or(u32::MAX).clamp(1, u32::MAX - 1))
    }

    fn liveness(self) -> Liveness {
        match self {
            Self::LIVE => Liveness::Live,
            Self::DELETED => Liveness::Deleted,
            Self(seconds) => Liveness::Deleting {
                since: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.into()),
            },
        }
    }
}

impl Index {
    /// Returns what is known about the object with this name and this UID.
    pub(super) fn liveness(&self, namespace: &str, name: &str, uid: &str) -> Liveness {
        let uid = Uid::new(uid);
        match self.objects.get(&self.name(namespace, name)) {
            Some(object) if object.uid == uid => object.phase.liveness(),
            _ if self.replaced.contains(&uid) => Liveness::Deleted,
            // The name may be that of a predecessor, while the watch lags.
            _ if self.is_listed => Liveness::Unseen,
            _ => Liveness::NotWatched,
        }
    }

    /// Returns the number of objects that are not deleted.
    pub(super) fn len(&self) -> usize {
        self.live
    }

    /// Inserts or updates an object. Returns the UIDs of the objects that end: of the one that it
    /// replaces, and its own if its deletion timestamp is new.
    pub(super) fn insert(
        &mut self,
        namespace: &str,
        name: &str,
        uid: &str,
        deleting: Option<SystemTime>,
    ) -> [Option<Uid>; 2] {
        let (name, uid) = (self.name(namespace, name), Uid::new(uid));
        let phase = deleting.map_or(Phase::LIVE, Phase::deleting);
        let object = Object { uid: uid.clone(), phase, listing: self.listing };
        self.live += 1;
        let before = self.objects.insert(name, object);
        let was_known = before.as_ref().is_some_and(|it| it.uid == uid && it.phase == phase);
        let marked = (phase != Phase::LIVE && !was_known).then(|| uid.clone());
        let Some(before) = before else { return [None, marked] };
        let has_ended = before.phase == Phase::DELETED;
        if !has_ended {
            self.live -= 1;
        }
        if before.uid == uid {
            return [None, marked];
        }
        self.replaced.insert(before.uid.clone());
        if has_ended {
            return [None, marked];
        }
        self.remember(name, before.uid.clone());
        [Some(before.uid), marked]
    }

    /// Marks an object as deleted. Another object under the same name stays.
    pub(super) fn remove(&mut self, namespace: &str, name: &str, uid: &str) {
        let (name, uid) = (self.name(namespace, name), Uid::new(uid));
        match self.objects.get_mut(&name) {
            Some(object) if object.uid == uid && object.phase == Phase::DELETED => return,
            Some(object) if object.uid != uid => {
                if !self.replaced.insert(uid.clone()) {
                    return;
                }
            }
            Some(object) => {
                object.phase = Phase::DELETED;
                self.live -= 1;
            }
            None => {
                let phase = Phase::DELETED;
                let object = Object { uid: uid.clone(), phase, listing: self.listing };
                self.objects.insert(name, object);
            }
        }
        self.remember(name, uid);
    }

    /// Begins a listing: every object that exists is inserted, then the listing ends.
    pub(super) fn begin_listing(&mut self) {
        self.listing = self.listing.wrapping_add(1);
    }

    /// Marks all objects as deleted that the listing did not contain, and returns their UIDs.
    pub(super) fn end_listing(&mut self) -> Vec<Uid> {
        self.is_listed = true;
        let mut missing = Vec::new();
        for (name, object) in &mut self.objects {
            if object.listing != self.listing && object.phase != Phase::DELETED {
                object.phase = Phase::DELETED;
                missing.push((*name, object.uid.clone()));
            }
        }
        self.live -= missing.len();
        let remembered = missing.iter().cloned();
        remembered.for_each(|(name, uid)| self.remember(name, uid));
        missing.into_iter().map(|(_, uid)| uid).collect()
    }

    /// Bounds the number of deleted objects.
    fn remember(&mut self, name: Name, uid: Uid) {
        self.deleted.push_back((name, uid));
        if self.deleted.len() > DELETED
            && let Some((name, uid)) = self.deleted.pop_front()
        {
            self.replaced.remove(&uid);
            // Not its successor, and not an object that was restored.
            let is_gone = |it: &Object| it.phase == Phase::DELETED && it.uid == uid;
            if self.objects.get(&name).is_some_and(is_gone) {
                self.objects.remove(&name);
            }
        }
    }

    fn name(&self, namespace: &str, name: &str) -> Name {
        let (first, second) = &self.keys;
        Name(first.hash_one((namespace, name)), second.hash_one((namespace, name)))
    }
}

/// Takes a word of the digest as the hash.
#[derive(Default)]
struct NameHasher(u64);

impl Hasher for NameHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }

    /// Not called: a name writes one word.
    fn write(&mut self, _: &[u8]) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaa-0000-4000-8000-000000000000";
    const B: &str = "bbbbbbbb-0000-4000-8000-000000000000";

    /// Returns an index that is listed.
    fn listed() -> Index {
        let mut index = Index::default();
        assert!(index.end_listing().is_empty());
        index
    }

    fn insert(index: &mut Index, name: &str, uid: &str) -> Option<String> {
        let [replaced, marked] = index.insert("shop", name, uid, None);
        assert_eq!(marked, None);
        replaced.map(|uid| uid.to_string())
    }

    #[test]
    fn before_the_first_listing_is_complete_nothing_is_missing() {
        let mut index = Index::default();
        insert(&mut index, "web-0", A);
        assert_eq!(index.liveness("shop", "web-0", A), Liveness::Live);
        assert_eq!(index.liveness("shop", "web-1", A), Liveness::NotWatched);
    }

    #[test]
    fn an_object_is_known_by_namespace_name_and_uid() {
        let mut index = listed();
        insert(&mut index, "web-0", A);
        assert_eq!(index.liveness("shop", "web-0", A), Liveness::Live);
        assert_eq!(index.liveness("shop", "web-0", B), Liveness::Unseen, "its successor");
        assert_eq!(index.liveness("shop", "web-1", A), Liveness::Unseen);
        assert_eq!(index.liveness("ops", "web-0", A), Liveness::Unseen);
    }

    #[test]
    fn a_deleted_object_stays_deleted_and_says_nothing_about_its_successor() {
        let mut index = listed();
        insert(&mut index, "web-0", A);
        index.remove("shop", "web-0", A);
        assert_eq!(index.liveness("shop", "web-0", A), Liveness::Deleted);
        assert_eq!(index.liveness("shop", "web-0", B), Liveness::Unseen);
        assert_eq!(insert(&mut index, "web-0", B), None, "the deletion is known already");
        assert_eq!(index.liveness("shop", "web-0", A), Liveness::Deleted);
        assert_eq!(index.liveness("shop", "web-0", B), Liveness::Live);
        assert_eq!(index.len(), 1);
    }

    #[test]
    fn an_object_with_another_uid_replaces_the_first() {
        let mut index = listed();
        assert_eq!(insert(&mut index, "web-0", A), None);
        assert_eq!(insert(&mut index, "web-0", A), None, "an update");
        assert_eq!(insert(&mut index, "web-0", B).as_deref(), Some(A));
        assert_eq!(index.liveness("shop", "web-0", A), Liveness::Deleted);
        index.remove("shop", "web-0", A);
        assert_eq!(index.liveness("shop", "web-0", B), Liveness::Live);
        assert_eq!(index.len(), 1);
    }

    #[test]
    fn a_deletion_timestamp_is_kept_in_seconds() {
        let mut index = listed();
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
        let mark = |index: &mut Index| index.insert("shop", "web-0", A, Some(since));
        assert_eq!(mark(&mut index), [None, Some(Uid::new(A))], "seen with its mark");
        assert_eq!(mark(&mut index), [None, None], "known");
        insert(&mut index, "web-0", A);
        assert_eq!(mark(&mut index), [None, Some(Uid::new(A))]);
        assert_eq!(index.liveness("shop", "web-0", A), Liveness::Deleting { since });
        assert_eq!(index.liveness("shop", "web-0", B), Liveness::Unseen, "its successor");
    }

    #[test]
    fn a_listing_deletes_what_it_does_not_contain() {
        let mut index = listed();
        insert(&mut index, "web-0", A);
        insert(&mut index, "web-1", B);
        index.begin_listing();
        insert(&mut index, "web-0", A);
        let missing: Vec<_> = index.end_listing().iter().map(Uid::to_string).collect();
        assert_eq!(missing, [B]);
        assert_eq!(index.liveness("shop", "web-0", A), Liveness::Live);
        assert_eq!(index.liveness("shop", "web-1", B), Liveness::Deleted);
        index.begin_listing();
        insert(&mut index, "web-0", A);
        insert(&mut index, "web-1", B);
        assert!(index.end_listing().is_empty());
        assert_eq!(index.liveness("shop", "web-1", B), Liveness::Live, "it was restored");
        assert_eq!(index.len(), 2);
    }

    #[test]
    fn the_number_of_deleted_objects_is_bounded() {
        let mut index = listed();
        for number in 0..DELETED + 10 {
            let name = format!("job-{number}");
            insert(&mut index, &name, A);
            index.remove("shop", &name, A);
        }
        assert_eq!((index.objects.len(), index.deleted.len()), (DELETED, DELETED));
        assert_eq!(index.liveness("shop", "job-9", A), Liveness::Unseen);
        assert_eq!(index.liveness("shop", "job-10", A), Liveness::Deleted);
        for number in 0..DELETED + 10 {
            insert(&mut index, "web-0", &number.to_string());
        }
        assert_eq!(index.replaced.len(), DELETED);
        index.remove("shop", "web-0", "a");
        index.remove("shop", "web-0", "a");
        assert_eq!((index.replaced.len(), index.deleted.len()), (DELETED, DELETED));
        assert_eq!(index.liveness("shop", "web-0", "a"), Liveness::Deleted);
        insert(&mut index, "web-0", "a");
        assert_eq!(index.liveness("shop", "web-0", "a"), Liveness::Live, "it was restored");
    }

    #[test]
    fn a_forgotten_deletion_takes_no_successor_with_it() {
        let mut index = listed();
        index.remove("shop", "web-0", A);
        insert(&mut index, "web-0", B);
        for number in 0..DELETED {
            index.remove("shop", &format!("job-{number}"), A);
        }
        assert_eq!(index.liveness("shop", "web-0", B), Liveness::Live);
    }

    #[test]
    fn an_entry_has_48_bytes() {
        assert_eq!(size_of::<(Name, Object)>(), 48);
    }
}
