//! What was invalidated lately: a verification that began before must not bring it back.

use std::{
    collections::VecDeque,
    sync::{PoisonError, RwLock, RwLockReadGuard},
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
pub(super) struct Invalidations(RwLock<Log>);

#[derive(Default)]
pub(super) struct Log {
    count: u64,
    latest: VecDeque<(Instant, Invalidation)>,
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
    /// The log as it stands. It stands still until this is dropped, and with it every invalidation: what is kept meanwhile is there
    /// to be found by the next one.
    pub(super) fn so_far(&self) -> RwLockReadGuard<'_, Log> {
        // Nothing that can panic writes to it.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, at: Instant, invalidation: Invalidation) {
        let mut log = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if log.latest.len() == REMEMBERED {
            log.latest.pop_front();
        }
        log.latest.push_back((at, invalidation));
        log.count += 1;
    }
}

impl Log {
    pub(super) fn now(&self) -> Moment {
        Moment(self.count)
    }

    /// Whether this token was invalidated after `since`.
    pub(super) fn any_since(&self, since: Moment, digest: &Digest, identity: Option<&ServiceAccountIdentity>) -> bool {
        let newer = usize::try_from(self.count - since.0).unwrap_or(usize::MAX);
        newer > self.latest.len() || self.latest.iter().rev().take(newer).any(|(_, one)| one.is_of(digest, identity))
    }

    /// When this token was invalidated last, as far as is remembered.
    pub(super) fn last_of(&self, digest: &Digest, identity: &ServiceAccountIdentity) -> Option<Instant> {
        self.latest.iter().rev().find(|(_, one)| one.is_of(digest, Some(identity))).map(|(at, _)| *at)
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
            let before = invalidations.so_far().now();
            let is_of_nobody = matches!(invalidation, Invalidation::ServiceAccount(_) | Invalidation::Pod(_));
            invalidations.push(at, invalidation);
            assert_eq!(invalidations.so_far().any_since(before, &mine, Some(&identity)), of_mine);
            assert_eq!(invalidations.so_far().any_since(before, &other, Some(&identity)), of_other);
            assert_eq!(invalidations.so_far().any_since(before, &mine, None), of_mine && !is_of_nobody);
            assert!(!invalidations.so_far().any_since(invalidations.so_far().now(), &mine, Some(&identity)));
        }
    }

    #[test]
    fn what_is_no_longer_remembered_counts_as_about_everybody() {
        let (invalidations, key) = (Invalidations::default(), DigestKey::random().unwrap());
        let (before, at) = (invalidations.so_far().now(), Clock::system().monotonic());
        for number in 0..REMEMBERED {
            invalidations.push(at, Invalidation::Pod(number.to_string().into()));
        }
        assert!(!invalidations.so_far().any_since(before, &key.digest(b"a"), None));
        invalidations.push(at, Invalidation::Pod("one more".into()));
        assert!(invalidations.so_far().any_since(before, &key.digest(b"a"), None));
        assert_eq!(invalidations.so_far().latest.len(), REMEMBERED);
    }
}
