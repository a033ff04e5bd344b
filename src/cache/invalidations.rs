//! The log of recent invalidations. A verification that began before one must not be cached after
//! it.

use std::{
    collections::VecDeque,
    sync::{RwLock, RwLockReadGuard},
    time::{Duration, Instant},
};

use super::digest::Digest;
use crate::{
    identity::{BoundObject, ServiceAccountIdentity},
    lock,
};

/// Capacity of the log. Verifications older than its oldest entry are not cached.
const CAPACITY: usize = 1024;

/// Which decisions to drop.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Invalidation {
    Key(Digest),
    ServiceAccount(Box<str>),
    Pod(Box<str>),
    /// Tokens of a namespace, or of all, that are bound to neither a Pod nor a Node. Those of Secrets
    /// are among them: an identity does not name the Secret.
    #[cfg(feature = "watch")]
    BoundToNeitherPodNorNode(Option<Box<str>>),
    All,
}

/// When a verification began: the time, and the number of invalidations before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VerificationStart {
    pub(super) at: Instant,
    invalidations: u64,
}

/// How long an API server may answer a TokenReview by its state from before an invalidation: 10 s,
/// the TTL of kube-apiserver's token cache, and a second of margin.
const API_SERVER_TTL: Duration = Duration::from_secs(11);

/// What invalidations are matched against. The identity is known for accepted tokens only.
pub(super) struct InvalidationSubject<'a> {
    digest: &'a Digest,
    identity: Option<&'a ServiceAccountIdentity>,
}

#[derive(Default)]
pub(super) struct Invalidations(RwLock<Log>);

#[derive(Default)]
pub(super) struct Log {
    count: u64,
    /// The number of the newest entry that has left the log.
    forgotten: u64,
    latest: VecDeque<LogEntry>,
}

struct LogEntry {
    number: u64,
    at: Instant,
    invalidation: Invalidation,
}

impl<'a> InvalidationSubject<'a> {
    pub(super) fn rejected(digest: &'a Digest) -> Self {
        Self { digest, identity: None }
    }

    pub(super) fn accepted(digest: &'a Digest, identity: &'a ServiceAccountIdentity) -> Self {
        Self { digest, identity: Some(identity) }
    }
}

impl Invalidation {
    pub(super) fn applies_to(&self, subject: &InvalidationSubject<'_>) -> bool {
        let identity = subject.identity;
        let is = |object: Option<BoundObject<'_>>, uid: &str| {
            object.is_some_and(|object| object.uid == Some(uid))
        };
        match self {
            Self::Key(key) => key == subject.digest,
            Self::ServiceAccount(uid) => identity.is_some_and(|account| account.uid() == &**uid),
            Self::Pod(uid) => is(identity.and_then(ServiceAccountIdentity::pod), uid),
            #[cfg(feature = "watch")]
            Self::BoundToNeitherPodNorNode(namespace) => identity.is_some_and(|account| {
                let is_unbound = account.pod().is_none() && account.node().is_none();
                is_unbound && namespace.as_deref().is_none_or(|one| one == account.namespace())
            }),
            Self::All => true,
        }
    }
}

impl Invalidations {
    /// Locks the log for reading, which holds up invalidations until the guard is dropped: a
    /// verdict cached meanwhile is found and dropped by the next invalidation.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Log> {
        lock::read(&self.0)
    }

    /// Waits until nobody reads the log: what was cached by a guard of [`read`](Self::read) is in
    /// the cache then.
    #[cfg(feature = "watch")]
    pub(super) fn wait_for_readers(&self) {
        drop(lock::write(&self.0));
    }

    pub(super) fn push(&self, at: Instant, invalidation: Invalidation) {
        let mut log = lock::write(&self.0);
        // Whoever may delete Secrets in one namespace must not fill the log.
        #[cfg(feature = "watch")]
        if let Invalidation::BoundToNeitherPodNorNode(_) = invalidation {
            log.latest.retain(|entry| entry.invalidation != invalidation);
        }
        if log.latest.len() == CAPACITY
            && let Some(oldest) = log.latest.pop_front()
        {
            log.forgotten = oldest.number;
        }
        log.count += 1;
        let number = log.count;
        log.latest.push_back(LogEntry { number, at, invalidation });
    }
}

impl Log {
    /// Marks the start of a verification that begins now, at `at`.
    pub(super) fn start(&self, at: Instant) -> VerificationStart {
        VerificationStart { at, invalidations: self.count }
    }

    /// Whether the subject was invalidated after `since`. Entries that have left the log count as
    /// applying to every subject.
    pub(super) fn any_since(
        &self,
        since: VerificationStart,
        subject: &InvalidationSubject<'_>,
    ) -> bool {
        let is_newer = |entry: &&LogEntry| entry.number > since.invalidations;
        let mut newer = self.latest.iter().rev().take_while(is_newer);
        self.forgotten > since.invalidations
            || newer.any(|entry| entry.invalidation.applies_to(subject))
    }

    /// Returns until when the API server's cache may hold the subject's state from before its last
    /// invalidation; `None` if the verification began after that time.
    pub(super) fn unsettled_until(
        &self,
        began: VerificationStart,
        subject: &InvalidationSubject<'_>,
    ) -> Option<Instant> {
        let ends = |at: Instant| Some(at + API_SERVER_TTL).filter(|end| *end > began.at);
        let mut oldest = None;
        for entry in self.latest.iter().rev() {
            oldest = Some(ends(entry.at)?);
            if entry.invalidation.applies_to(subject) {
                return oldest;
            }
        }
        // The whole log is recent, so an entry that has left it may have applied to this subject.
        oldest.filter(|_| self.latest.len() == CAPACITY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cache::digest::DigestKey, clock::Clock, testing::IdentityBuilder};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_invalidation_applies_to_its_subject_and_to_earlier_verifications_only() {
        let (invalidations, key) = (Invalidations::default(), DigestKey::random().unwrap());
        let (mine, other) = (key.digest(b"mine"), key.digest(b"other"));
        let identity = IdentityBuilder::new("ns", "sa").uid("sa-uid").pod("pod", "pod-uid").build();
        let at = Clock::system().monotonic();
        for (invalidation, of_mine, of_other) in [
            (Invalidation::Key(key.digest(b"mine")), true, false),
            (Invalidation::ServiceAccount("sa-uid".into()), true, true),
            (Invalidation::ServiceAccount("pod-uid".into()), false, false),
            (Invalidation::Pod("pod-uid".into()), true, true),
            (Invalidation::Pod("sa-uid".into()), false, false),
            (Invalidation::All, true, true),
        ] {
            let before = invalidations.read().start(at);
            let needs_identity =
                matches!(invalidation, Invalidation::ServiceAccount(_) | Invalidation::Pod(_));
            invalidations.push(at, invalidation);
            let log = invalidations.read();
            assert_eq!(
                log.any_since(before, &InvalidationSubject::accepted(&mine, &identity)),
                of_mine
            );
            assert_eq!(
                log.any_since(before, &InvalidationSubject::accepted(&other, &identity)),
                of_other
            );
            assert_eq!(
                log.any_since(before, &InvalidationSubject::rejected(&mine)),
                of_mine && !needs_identity
            );
            assert!(
                !log.any_since(log.start(at), &InvalidationSubject::accepted(&mine, &identity))
            );
        }
    }

    #[test]
    fn a_secret_concerns_tokens_of_its_namespace_that_are_bound_to_nothing_else() {
        let digest = DigestKey::random().unwrap().digest(b"token");
        let account = || IdentityBuilder::new("ns", "sa").uid("sa-uid");
        let on_node = || account().node("node", "node-uid");
        let unbound = |namespace: Option<&str>| {
            Invalidation::BoundToNeitherPodNorNode(namespace.map(Into::into))
        };
        for (identity, expected) in [
            (account(), true),
            (on_node(), false),
            (on_node().pod("pod", "pod-uid"), false),
            (account().pod("pod", "pod-uid"), false),
        ] {
            let identity = identity.build();
            let subject = InvalidationSubject::accepted(&digest, &identity);
            assert_eq!(unbound(None).applies_to(&subject), expected);
            assert_eq!(unbound(Some("ns")).applies_to(&subject), expected);
            assert!(!unbound(Some("other")).applies_to(&subject));
        }
        assert!(!unbound(None).applies_to(&InvalidationSubject::rejected(&digest)));
    }

    #[test]
    fn the_secrets_of_a_namespace_take_one_entry_of_the_log() {
        let (invalidations, key) = (Invalidations::default(), DigestKey::random().unwrap());
        let (digest, at) = (key.digest(b"token"), Clock::system().monotonic());
        let [mine, other] =
            ["ns", "other"].map(|namespace| IdentityBuilder::new(namespace, "sa").build());
        let any_since = |start: VerificationStart, identity| {
            invalidations.read().any_since(start, &InvalidationSubject::accepted(&digest, identity))
        };
        let first = invalidations.read().start(at);
        let mut last = first;
        for _ in 0..2 * CAPACITY {
            last = invalidations.read().start(at);
            invalidations.push(at, Invalidation::BoundToNeitherPodNorNode(Some("ns".into())));
        }
        assert!(any_since(first, &mine) && any_since(last, &mine));
        assert!(!any_since(first, &other) && !any_since(last, &other));
        assert!(!any_since(invalidations.read().start(at), &mine));
        assert_eq!(invalidations.read().latest.len(), 1);
    }

    #[test]
    fn an_entry_that_left_the_log_counts_as_applying_to_every_subject() {
        let (invalidations, key, at) =
            (Invalidations::default(), DigestKey::random().unwrap(), Clock::system().monotonic());
        let (digest, before) = (key.digest(b"a"), invalidations.read().start(at));
        let (any, unsettled) = (
            || invalidations.read().any_since(before, &InvalidationSubject::rejected(&digest)),
            || {
                invalidations
                    .read()
                    .unsettled_until(before, &InvalidationSubject::rejected(&digest))
            },
        );
        for number in 0..CAPACITY - 1 {
            invalidations.push(at + SECOND, Invalidation::Pod(number.to_string().into()));
        }
        assert_eq!((any(), unsettled()), (false, None));
        invalidations.push(at + SECOND, Invalidation::Pod("one more".into()));
        invalidations.push(at + SECOND * 2, Invalidation::Pod("and another".into()));
        assert_eq!((any(), unsettled()), (true, Some(at + SECOND + API_SERVER_TTL)));
        assert_eq!(invalidations.read().latest.len(), CAPACITY);
    }

    #[test]
    fn a_verification_within_the_api_servers_ttl_is_unsettled_until_its_end() {
        let (invalidations, key, at) =
            (Invalidations::default(), DigestKey::random().unwrap(), Clock::system().monotonic());
        let (mine, other) = (key.digest(b"mine"), key.digest(b"other"));
        invalidations.push(at, Invalidation::Key(key.digest(b"mine")));
        invalidations.push(at + SECOND, Invalidation::Key(key.digest(b"another")));
        let log = invalidations.read();
        let until = |digest, seconds| {
            log.unsettled_until(
                log.start(at + SECOND * seconds),
                &InvalidationSubject::rejected(digest),
            )
        };
        assert_eq!(until(&mine, 0), Some(at + API_SERVER_TTL));
        assert_eq!(until(&mine, 10), Some(at + API_SERVER_TTL));
        assert_eq!(until(&mine, 11), None);
        assert_eq!(until(&other, 0), None);
    }
}
