//! What was invalidated lately: a verification that began before must not bring it back.

use std::{
    collections::VecDeque,
    sync::{PoisonError, RwLock, RwLockReadGuard},
    time::{Duration, Instant},
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

/// When a verification began: on the clock, and between which invalidations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VerificationStart {
    pub(super) at: Instant,
    invalidations: u64,
}

/// For so long an API server answers from a cache of its own about tokens that it has verified (10 s), and a second more: what
/// it is asked so soon after an invalidation it may answer from before.
const API_SERVER_TTL: Duration = Duration::from_secs(11);

/// What an invalidation can be about. The ServiceAccount and the Pod are known of accepted tokens.
pub(super) struct InvalidationSubject<'a> {
    digest: &'a Digest,
    account: Option<&'a str>,
    pod: Option<&'a str>,
}

#[derive(Default)]
pub(super) struct Invalidations(RwLock<Log>);

#[derive(Default)]
pub(super) struct Log {
    count: u64,
    latest: VecDeque<(Instant, Invalidation)>,
}

impl<'a> InvalidationSubject<'a> {
    pub(super) fn rejected(digest: &'a Digest) -> Self {
        Self { digest, account: None, pod: None }
    }

    pub(super) fn accepted(digest: &'a Digest, identity: &'a ServiceAccountIdentity) -> Self {
        Self { digest, account: Some(identity.uid()), pod: identity.pod().and_then(|pod| pod.uid) }
    }
}

impl Invalidation {
    pub(super) fn is_of(&self, about: &InvalidationSubject<'_>) -> bool {
        match self {
            Self::Token(token) => token == about.digest,
            Self::ServiceAccount(uid) => about.account == Some(uid),
            Self::Pod(uid) => about.pod == Some(uid),
            Self::All => true,
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
    /// What begins at `at` begins now.
    pub(super) fn moment(&self, at: Instant) -> VerificationStart {
        VerificationStart { at, invalidations: self.count }
    }

    /// Whether a token was invalidated after `since`. One that is no longer remembered counts as about everybody.
    pub(super) fn any_since(
        &self,
        since: VerificationStart,
        about: &InvalidationSubject<'_>,
    ) -> bool {
        let newer = usize::try_from(self.count - since.invalidations).unwrap_or(usize::MAX);
        newer > self.latest.len()
            || self.latest.iter().rev().take(newer).any(|(_, one)| one.is_of(about))
    }

    /// Until when the API server's own cache may know of a token only what was before its last invalidation, if a verification that
    /// began then met with that.
    pub(super) fn unsettled_until(
        &self,
        began: VerificationStart,
        about: &InvalidationSubject<'_>,
    ) -> Option<Instant> {
        let ends = |at: Instant| Some(at + API_SERVER_TTL).filter(|end| *end > began.at);
        let mut oldest = None;
        for (at, one) in self.latest.iter().rev() {
            oldest = Some(ends(*at)?);
            if one.is_of(about) {
                return oldest;
            }
        }
        // All that are remembered are recent; one that is forgotten may have been about this token.
        oldest.filter(|_| self.latest.len() == REMEMBERED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cache::digest::DigestKey, clock::Clock, testing::IdentityBuilder};

    const SECOND: Duration = Duration::from_secs(1);

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
            let before = invalidations.so_far().moment(at);
            let is_of_nobody =
                matches!(invalidation, Invalidation::ServiceAccount(_) | Invalidation::Pod(_));
            invalidations.push(at, invalidation);
            let log = invalidations.so_far();
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
                of_mine && !is_of_nobody
            );
            assert!(
                !log.any_since(log.moment(at), &InvalidationSubject::accepted(&mine, &identity))
            );
        }
    }

    #[test]
    fn what_is_no_longer_remembered_counts_as_about_everybody() {
        let (invalidations, key, at) =
            (Invalidations::default(), DigestKey::random().unwrap(), Clock::system().monotonic());
        let (digest, before) = (key.digest(b"a"), invalidations.so_far().moment(at));
        let (any, unsettled) = (
            || invalidations.so_far().any_since(before, &InvalidationSubject::rejected(&digest)),
            || {
                invalidations
                    .so_far()
                    .unsettled_until(before, &InvalidationSubject::rejected(&digest))
            },
        );
        for number in 0..REMEMBERED - 1 {
            invalidations.push(at + SECOND, Invalidation::Pod(number.to_string().into()));
        }
        assert_eq!((any(), unsettled()), (false, None));
        invalidations.push(at + SECOND, Invalidation::Pod("one more".into()));
        invalidations.push(at + SECOND * 2, Invalidation::Pod("and another".into()));
        assert_eq!((any(), unsettled()), (true, Some(at + SECOND + API_SERVER_TTL)));
        assert_eq!(invalidations.so_far().latest.len(), REMEMBERED);
    }

    #[test]
    fn what_began_within_the_api_servers_own_time_is_unsettled_until_that_is_over() {
        let (invalidations, key, at) =
            (Invalidations::default(), DigestKey::random().unwrap(), Clock::system().monotonic());
        let (mine, other) = (key.digest(b"mine"), key.digest(b"other"));
        invalidations.push(at, Invalidation::Token(key.digest(b"mine")));
        invalidations.push(at + SECOND, Invalidation::Token(key.digest(b"another")));
        let log = invalidations.so_far();
        let until = |digest, seconds| {
            log.unsettled_until(
                log.moment(at + SECOND * seconds),
                &InvalidationSubject::rejected(digest),
            )
        };
        assert_eq!(until(&mine, 0), Some(at + API_SERVER_TTL));
        assert_eq!(until(&mine, 10), Some(at + API_SERVER_TTL));
        assert_eq!(until(&mine, 11), None);
        assert_eq!(until(&other, 0), None);
    }
}
