//! When the watches of the live services were open, as seen on their way to the API server. The
//! oracle knows by it which changes they must have seen.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use crate::{
    facts::{Asked, Pod},
    oracle::SLACK,
};

/// What the live services watch.
pub(crate) const RESOURCES: [&str; 2] = ["serviceaccounts", "pods"];
/// From a change to its effect, while both watches are open.
const NOTICED: Duration = Duration::from_secs(1);
/// After this silence, with its jitter and one pause, a stalled watch lists again.
const SILENCE: Duration = Duration::from_millis(75_000 * 105 / 100 + 750);
/// The default of `LocalReviewVerifier::max_staleness`.
const MAX_STALENESS: Duration = Duration::from_secs(120);

pub(crate) struct WatchHistory(Mutex<State>);

struct State {
    /// Number of the open watches of each resource, without those before the latest fault.
    open: BTreeMap<&'static str, u32>,
    faults: u64,
    /// Number of the watches that the latest stall hit and the client still waits for.
    stalled: u32,
    /// When not all watches were open, in order.
    blind: Vec<Blind>,
    /// When a watch of each resource last carried something, or the resource was last listed.
    signs: BTreeMap<&'static str, Instant>,
    /// When such a sign was older than a service may tolerate.
    stale: Vec<(Instant, Instant)>,
}

struct Blind {
    from: Instant,
    until: Option<Instant>,
    /// The latest end if the client notices the stall in time.
    at_most: Option<Instant>,
}

/// An open watch, until it is dropped.
pub(crate) struct OpenWatch {
    history: Arc<WatchHistory>,
    resource: &'static str,
    faults: u64,
}

impl Default for WatchHistory {
    fn default() -> Self {
        let now = Instant::now();
        Self(Mutex::new(State {
            open: BTreeMap::new(),
            faults: 0,
            stalled: 0,
            blind: vec![Blind { from: now, until: None, at_most: None }],
            signs: RESOURCES.map(|resource| (resource, now)).into(),
            stale: Vec::new(),
        }))
    }
}

impl WatchHistory {
    pub(crate) fn open(self: &Arc<Self>, resource: &'static str) -> OpenWatch {
        let mut state = self.state();
        *state.open.entry(resource).or_default() += 1;
        if state.is_open() {
            state.end_blind(Instant::now());
        }
        OpenWatch { history: self.clone(), resource, faults: state.faults }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state().is_open()
    }

    /// Marks that no watch that is open now carries anything any more.
    pub(crate) fn cut(&self) {
        self.fault(None);
    }

    /// Marks the same; the watches have to notice it by the silence.
    pub(crate) fn stall(&self) {
        self.fault(Some(Instant::now() + SILENCE + SLACK));
    }

    fn fault(&self, at_most: Option<Instant>) {
        let (now, mut state) = (Instant::now(), self.state());
        let was_open = state.is_open();
        state.faults += 1;
        state.stalled = state.open.values().filter(|_| at_most.is_some()).sum();
        state.open.clear();
        // A stall of what is blind already has no end of its own.
        if was_open || at_most.is_none() {
            state.end_blind(now);
            state.blind.push(Blind { from: now, until: None, at_most });
        }
    }

    /// Marks that the API server has shown its objects of `resource` as of `at`.
    pub(crate) fn sign(&self, resource: &'static str, at: Instant) {
        let mut state = self.state();
        let before = state.signs.insert(resource, at).unwrap_or(at);
        if before + MAX_STALENESS < at {
            state.stale.push((before + MAX_STALENESS, at));
        }
    }

    /// Returns when a change that was complete at `at` has to be known; `None` if not yet.
    fn known_from(&self, at: Instant) -> Option<Instant> {
        let mut known = at + NOTICED + SLACK;
        for blind in &self.state().blind {
            if blind.from < known {
                let until = [blind.until, blind.at_most].into_iter().flatten().min()?;
                known = known.max(until + NOTICED + SLACK);
            }
        }
        Some(known)
    }

    /// Returns for how long `pod`'s deletion could be known at `at`, if the watch knew the Pod.
    pub(crate) fn late(&self, pod: &Pod, at: Instant) -> Option<Duration> {
        if !self.shows_creation(pod, at) {
            return None;
        }
        at.checked_duration_since(self.known_from(pod.removal.done()?)? - NOTICED - SLACK)
    }

    /// Returns whether a service that watches must have noticed the deletion of `pod` at `at`: by
    /// its watch, or because the watch gave no sign of life for too long.
    pub(crate) fn shows_deletion(&self, pod: &Pod, at: Instant) -> bool {
        let Some(done) = pod.removal.done() else { return false };
        done + MAX_STALENESS + SLACK < at || self.known_from(done).is_some_and(|known| known < at)
    }

    /// Returns whether the watch must have seen `pod` at `at`, and before its deletion.
    pub(crate) fn shows_creation(&self, pod: &Pod, at: Instant) -> bool {
        self.known_from(pod.created)
            .is_some_and(|known| known < at && !pod.removal.had_begun_by(known))
    }

    /// Returns whether the watches gave no sign of life for too long at some time of the request.
    pub(crate) fn is_stale(&self, asked: Asked) -> bool {
        let state = self.state();
        let now = state.signs.values().any(|at| *at + MAX_STALENESS < asked.answered + SLACK);
        let was = |(from, until): &(Instant, Instant)| {
            *from < asked.answered + SLACK && asked.sent < *until + SLACK
        };
        now || state.stale.iter().any(was)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic")
    }
}

impl State {
    fn is_open(&self) -> bool {
        RESOURCES.iter().all(|resource| self.open.get(resource).is_some_and(|open| *open > 0))
    }

    fn end_blind(&mut self, now: Instant) {
        if let Some(blind) = self.blind.last_mut() {
            blind.until.get_or_insert(now);
        }
    }

    /// The client gave up a watch from before the fault after this number. With the last one the
    /// stall is noticed: how long it takes to list again then depends on the server.
    fn end_stall_of(&mut self, faults: u64) {
        if self.stalled == 0 || self.faults != faults + 1 {
            return;
        }
        self.stalled -= 1;
        if self.stalled == 0
            && let Some(blind) = self.blind.last_mut()
        {
            blind.at_most = None;
        }
    }
}

impl OpenWatch {
    pub(crate) fn sign(&self) {
        self.history.sign(self.resource, Instant::now());
    }
}

impl Drop for OpenWatch {
    fn drop(&mut self) {
        let (now, mut state) = (Instant::now(), self.history.state());
        if state.faults != self.faults {
            state.end_stall_of(self.faults);
            return;
        }
        let was_open = state.is_open();
        if let Some(open) = state.open.get_mut(self.resource) {
            *open -= 1;
        }
        if was_open && !state.is_open() {
            state.blind.push(Blind { from: now, until: None, at_most: None });
        }
    }
}
