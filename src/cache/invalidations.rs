//! What was invalidated lately: a verification that began before must not bring it back.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use super::digest::Digest;
use crate::identity::ServiceAccountIdentity;

/// So many are remembered. A verification that more than these have overtaken is not kept.
const REMEMBERED: usize = 1024;

/// What to forget.
#[derive(Clone)]
pub(crate) enum Invalidation {
    Token(Digest),
    ServiceAccount(Box<str>),
    Pod(Box<str>),
    All,
}

/// A moment between two invalidations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment(u64);

#[derive(Default)]
pub(super) struct Invalidations {
    count: AtomicU64,
    latest: Mutex<VecDeque<(Instant, Invalidation)>>,
}

impl Invalidation {
    /// Whether it is about this token, whose identity is known if it was accepted.
    pub(super) fn is_of(&self, digest: &Digest, identity: Option<&ServiceAccountIdentity>) -> bool {
        match self {
            Self::Token(token) => token == digest,
            Self::All => true,
            Self::ServiceAccount(_) | Self::Pod(_) => identity.is_some_and(|identity| self.names(identity)),
        }
    }

    pub(super) fn names(&self, identity: &ServiceAccountIdentity) -> bool {
        match self {
            Self::ServiceAccount(uid) => identity.uid() == &**uid,
            Self::Pod(uid) => identity.pod().and_then(|pod| pod.uid) == Some(uid),
            Self::Token(_) | Self::All => false,
        }
    }
}

impl Invalidations {
    pub(super) fn now(&self) -> Moment {
        Moment(self.count.load(Ordering::SeqCst))
    }

    pub(super) fn push(&self, at: Instant, invalidation: Invalidation) {
        let mut latest = self.latest();
        if latest.len() == REMEMBERED {
            latest.pop_front();
        }
        latest.push_back((at, invalidation));
        // Under the lock, so that the count and the list tell the same.
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether this token was invalidated after `since`.
    pub(super) fn any_since(&self, since: Moment, digest: &Digest, identity: Option<&ServiceAccountIdentity>) -> bool {
        if self.now() == since {
            return false;
        }
        let latest = self.latest();
        let newer = usize::try_from(self.now().0.wrapping_sub(since.0)).unwrap_or(usize::MAX);
        newer > latest.len() || latest.iter().rev().take(newer).any(|(_, one)| one.is_of(digest, identity))
    }

    /// When this token was invalidated last, as far as is remembered.
    pub(super) fn last_of(&self, digest: &Digest, identity: &ServiceAccountIdentity) -> Option<Instant> {
        if self.now() == Moment(0) {
            return None;
        }
        self.latest().iter().rev().find(|(_, one)| one.is_of(digest, Some(identity))).map(|(at, _)| *at)
    }

    fn latest(&self) -> MutexGuard<'_, VecDeque<(Instant, Invalidation)>> {
        // Nothing that can panic runs under the lock.
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cache::digest::DigestKey, clock::Clock, testing::IdentityBuilder};

    #[test]
    fn one_is_found_by_those_whom_it_is_about_and_by_those_that_it_has_overtaken() {
        let (invalidations, key) = (Invalidations::default(), DigestKey::random().unwrap());
        let (mine, other) = (key.digest(b"mine"), key.digest(b"other"));
        let identity = IdentityBuilder::new("ns", "sa").uid("sa-uid").pod("pod", "pod-uid").build();
        let at = Clock::system().monotonic();
        for (invalidation, of_mine, of_other) in [
            (Invalidation::Token(key.digest(b"mine")), true, false),
            (Invalidation::ServiceAccount("sa-uid".into()), true, true),
            (Invalidation::ServiceAccount("pod-uid".into()), false, false),
            (Invalidation::Pod("pod-uid".into()), true, true),
            (Invalidation::Pod("sa-uid".into()), false, false),
            (Invalidation::All, true, true),
        ] {
            let before = invalidations.now();
            let is_of_nobody = matches!(invalidation, Invalidation::ServiceAccount(_) | Invalidation::Pod(_));
            invalidations.push(at, invalidation);
            assert_eq!(invalidations.any_since(before, &mine, Some(&identity)), of_mine);
            assert_eq!(invalidations.any_since(before, &other, Some(&identity)), of_other);
            assert_eq!(invalidations.any_since(before, &mine, None), of_mine && !is_of_nobody);
            assert!(!invalidations.any_since(invalidations.now(), &mine, Some(&identity)));
        }
    }

    #[test]
    fn what_is_no_longer_remembered_counts_as_about_everybody() {
        let (invalidations, key) = (Invalidations::default(), DigestKey::random().unwrap());
        let (before, at) = (invalidations.now(), Clock::system().monotonic());
        for number in 0..REMEMBERED {
            invalidations.push(at, Invalidation::Pod(number.to_string().into()));
        }
        assert!(!invalidations.any_since(before, &key.digest(b"a"), None));
        invalidations.push(at, Invalidation::Pod("one more".into()));
        assert!(invalidations.any_since(before, &key.digest(b"a"), None));
        assert_eq!(invalidations.latest().len(), REMEMBERED);
    }
}
