//! Shares of a limit, so that the loads of one caller do not take all of it.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use crate::lock::lock;

/// Limits each caller's loads in flight, and how many of its loads wait. Knows only the callers
/// that have any.
pub(super) struct CallerShares {
    /// Permits of one caller.
    permits: usize,
    /// Greatest number of one caller's loads, in flight or waiting.
    max_loads: usize,
    under_way: Mutex<HashMap<ShareKey, Share>>,
}

/// A caller's uid, and whether its loads are about known keys: these have permits of their own, so
/// that a caller's new requests do not delay its usual ones.
type ShareKey = (Box<str>, bool);

struct Share {
    loads: usize,
    permits: Arc<Semaphore>,
}

/// The place of one load in its caller's share, in flight or waiting. Released on drop.
pub(super) struct CallerSlot<'a> {
    shares: &'a CallerShares,
    key: ShareKey,
    permits: Arc<Semaphore>,
}

impl CallerShares {
    pub(super) fn new(permits: usize, queue: usize) -> Self {
        Self { permits, max_loads: permits.saturating_add(queue), under_way: Mutex::default() }
    }

    /// Returns a place for a load of the caller with this uid, or `None` if all are taken.
    pub(super) fn enter(&self, uid: &str, is_known: bool) -> Option<CallerSlot<'_>> {
        let key: ShareKey = (uid.into(), is_known);
        let mut under_way = lock(&self.under_way);
        let share = under_way
            .entry(key.clone())
            .or_insert_with(|| Share { loads: 0, permits: Arc::new(Semaphore::new(self.permits)) });
        if share.loads >= self.max_loads {
            return None;
        }
        share.loads += 1;
        let permits = Arc::clone(&share.permits);
        Some(CallerSlot { shares: self, key, permits })
    }
}

impl CallerSlot<'_> {
    pub(super) fn try_acquire(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).try_acquire_owned().ok()
    }

    pub(super) async fn acquire(&self) -> Result<OwnedSemaphorePermit, AcquireError> {
        Arc::clone(&self.permits).acquire_owned().await
    }
}

impl fmt::Debug for CallerSlot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CallerSlot").field(&self.key).finish()
    }
}

impl Drop for CallerSlot<'_> {
    fn drop(&mut self) {
        let mut under_way = lock(&self.shares.under_way);
        let Some(share) = under_way.get_mut(&self.key) else { return };
        share.loads -= 1;
        if share.loads == 0 {
            under_way.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_bounded_and_the_map_knows_only_callers_with_loads() {
        let shares = CallerShares::new(1, 1);
        let (first, second) = (shares.enter("a", false).unwrap(), shares.enter("a", false));
        assert!(second.is_some() && shares.enter("a", false).is_none());
        assert!(shares.enter("a", true).is_some(), "known keys have a share of their own");
        let _permit = first.try_acquire().unwrap();
        assert!(second.unwrap().try_acquire().is_none());
        let other = shares.enter("b", false).unwrap();
        assert!(other.try_acquire().is_some());
        assert_eq!(lock(&shares.under_way).len(), 2);
        drop((first, other));
        assert!(lock(&shares.under_way).is_empty());
    }
}
