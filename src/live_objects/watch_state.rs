//! The state of a watch, for people and for metrics.

use std::time::{Instant, SystemTime};

use crate::clock::Clock;

/// What one watch of [`LiveObjects`](super::LiveObjects) does, and how it fares.
///
/// [`LiveObjects::state`](super::LiveObjects::state) has an example.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WatchState {
    /// The resource, such as `pods`.
    pub resource: &'static str,
    /// The watched namespace; `None` for the whole cluster.
    pub namespace: Option<String>,
    /// What the watch does now.
    pub phase: WatchPhase,
    /// Since when it does so.
    pub since: SystemTime,
    /// When it was last certain that the index is current: the start of the latest complete list,
    /// or the latest event or bookmark. `None` if nothing has been listed yet.
    pub last_sign_of_life: Option<SystemTime>,
    /// Why the watch broke last, also if it has recovered.
    pub last_failure: Option<String>,
    /// Number of objects that exist.
    pub objects: usize,
    /// Number of events since the start, without bookmarks.
    pub events: u64,
    /// Number of complete lists since the start. The first is the initial one.
    pub lists: u64,
}

/// What a watch does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WatchPhase {
    /// It reads all objects: at the start, after a failure, after a silence, and after the API
    /// server has forgotten the version that the watch had reached.
    Listing,
    /// It receives events.
    Watching,
    /// It failed and tries again with growing pauses.
    Broken,
}

/// The part of a [`WatchState`] that the watch itself keeps.
pub(super) struct Progress {
    pub(super) phase: WatchPhase,
    since: Instant,
    pub(super) last_sign_of_life: Option<Instant>,
    pub(super) last_failure: Option<String>,
    pub(super) events: u64,
    pub(super) lists: u64,
}

impl WatchPhase {
    pub(super) const ALL: [Self; 3] = [Self::Listing, Self::Watching, Self::Broken];

    /// Returns the value that metrics have for it.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Listing => "listing",
            Self::Watching => "watching",
            Self::Broken => "broken",
        }
    }
}

impl Progress {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            phase: WatchPhase::Listing,
            since: now,
            last_sign_of_life: None,
            last_failure: None,
            events: 0,
            lists: 0,
        }
    }

    pub(super) fn enter(&mut self, phase: WatchPhase, now: Instant) {
        if self.phase != phase {
            (self.phase, self.since) = (phase, now);
        }
    }

    pub(super) fn last_sign_of_life(&self, clock: &Clock) -> Option<SystemTime> {
        self.last_sign_of_life.map(|at| wall_time(at, clock))
    }

    pub(super) fn state(
        &self,
        resource: &'static str,
        namespace: Option<&str>,
        objects: usize,
        clock: &Clock,
    ) -> WatchState {
        WatchState {
            resource,
            namespace: namespace.map(str::to_owned),
            phase: self.phase,
            since: wall_time(self.since, clock),
            last_sign_of_life: self.last_sign_of_life(clock),
            last_failure: self.last_failure.clone(),
            objects,
            events: self.events,
            lists: self.lists,
        }
    }
}

fn wall_time(at: Instant, clock: &Clock) -> SystemTime {
    clock.wall() - clock.monotonic().saturating_duration_since(at)
}
