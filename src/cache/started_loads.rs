//! Loads that run in tasks, and the end of those whose runtime nothing drives any more.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, Weak},
    task::Poll,
    time::Instant,
};

use crate::{catch_panic::call_caught, lock::lock, verdict::Outcome};

pub(super) type Loading = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// The loads in tasks, in the order of their start, with the time by which each ends if its runtime
/// is driven. A task that is not polled does not end by its own time limit, and would hold its
/// permit, its place in the queue and its input as long as the runtime exists.
#[derive(Default)]
pub(super) struct StartedLoads(Mutex<VecDeque<(Instant, Weak<StartedLoad>)>>);

/// A load that its task polls, and that others may drop.
pub(super) struct StartedLoad(Mutex<Option<Loading>>);

impl StartedLoads {
    /// Without `ends_by`, the load is never overdue.
    pub(super) fn add(&self, loading: Loading, ends_by: Option<Instant>) -> Arc<StartedLoad> {
        let load = Arc::new(StartedLoad(Mutex::new(Some(loading))));
        let Some(ends_by) = ends_by else { return load };
        let mut loads = lock(&self.0);
        // Amortised: ended loads are removed only when the list would grow.
        if loads.len() == loads.capacity() {
            loads.retain(|(_, load)| load.strong_count() > 0);
            let alive = loads.len();
            loads.reserve(alive);
        }
        loads.push_back((ends_by, Arc::downgrade(&load)));
        load
    }

    /// Drops the loads that have not ended in time, with all that they hold.
    pub(super) fn drop_overdue(&self, now: impl Fn() -> Instant) {
        while let Some(load) = self.next_overdue(&now) {
            // Outside of the lock: this drops a future of the user's verifier.
            if let Some(load) = load.upgrade() {
                load.drop_unless_polled();
            }
        }
    }

    fn next_overdue(&self, now: impl Fn() -> Instant) -> Option<Weak<StartedLoad>> {
        let mut loads = lock(&self.0);
        let (ends_by, _) = loads.front()?;
        if now() < *ends_by {
            return None;
        }
        loads.pop_front().map(|(_, load)| load)
    }
}

impl StartedLoad {
    /// Polls by `poll`. Returns `None` if the load was dropped.
    pub(super) fn poll(
        &self,
        poll: impl FnOnce(&mut Loading) -> Poll<Outcome>,
    ) -> Poll<Option<Outcome>> {
        match &mut *lock(&self.0) {
            Some(loading) => poll(loading).map(Some),
            None => Poll::Ready(None),
        }
    }

    /// What is being polled ends by its own time limit, and may be the one who asks.
    fn drop_unless_polled(&self) {
        let Ok(mut load) = self.0.try_lock() else { return };
        let loading = load.take();
        drop(load);
        let _ = call_caught(|| drop(loading));
    }
}
