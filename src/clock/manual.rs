//! The clock that stands still.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::watch;

use super::{Clock, Source};

/// A clock that stands still until a test moves it. Handles share one time.
///
/// ```
/// use std::time::Duration;
/// use tower_kube_auth::testing::ManualClock;
///
/// let clock = ManualClock::new();
/// let clock = clock.clock();
/// let before = clock.wall();
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.wall().duration_since(before).unwrap(), Duration::from_secs(60));
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock {
    base: (Instant, SystemTime),
    moved: Arc<watch::Sender<Moved>>,
    sleepers: Arc<Sleepers>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Moved {
    elapsed: Duration,
    wall_ahead: Duration,
    wall_behind: Duration,
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl ManualClock {
    /// A clock that starts at the system's present time.
    #[must_use]
    pub fn new() -> Self {
        let system = Clock::system();
        Self {
            base: (system.monotonic(), system.wall()),
            moved: Arc::new(watch::Sender::new(Moved::default())),
            sleepers: Arc::default(),
        }
    }

    /// The [`Clock`] to hand to the code under test.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock(Source::Manual(self.clone()))
    }

    /// Lets `duration` pass on both clocks and wakes whoever sleeps that long.
    pub fn advance(&self, duration: Duration) {
        self.moved.send_modify(|moved| moved.elapsed += duration);
    }

    /// Sets the wall clock forward, as an operator or NTP does; no time passes.
    pub fn jump_forward(&self, duration: Duration) {
        self.moved.send_modify(|moved| moved.wall_ahead += duration);
    }

    /// Sets the wall clock back; no time passes.
    pub fn jump_back(&self, duration: Duration) {
        self.moved.send_modify(|moved| moved.wall_behind += duration);
    }

    /// How long it is until the first of those who sleep by this clock wakes: zero if that is due, `None` if nobody
    /// sleeps. A test that advances by so much, as often as it takes, lets pass what the code under test waits for and
    /// no more.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_kube_auth::testing::ManualClock;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let clock = ManualClock::new();
    /// let clock = clock.clock();
    /// let sleeper = tokio::spawn(async move { clock.sleep(Duration::from_secs(10)).await });
    /// tokio::task::yield_now().await;
    /// clock.advance(Duration::from_secs(9));
    /// assert_eq!(clock.next_wake(), Some(Duration::from_secs(1)));
    /// clock.advance(Duration::from_secs(1));
    /// sleeper.await.unwrap();
    /// assert_eq!(clock.next_wake(), None);
    /// # }
    /// ```
    #[must_use]
    pub fn next_wake(&self) -> Option<Duration> {
        let elapsed = self.moved.borrow().elapsed;
        self.sleepers.lock().keys().next().map(|deadline| deadline.saturating_sub(elapsed))
    }

    pub(super) fn wall(&self) -> SystemTime {
        let moved = *self.moved.borrow();
        self.base.1 + moved.elapsed + moved.wall_ahead - moved.wall_behind
    }

    pub(super) fn monotonic(&self) -> Instant {
        self.base.0 + self.moved.borrow().elapsed
    }

    pub(super) async fn sleep(&self, duration: Duration) {
        let deadline = self.moved.borrow().elapsed.saturating_add(duration);
        let mut moved = self.moved.subscribe();
        let _asleep = Sleepers::join(&self.sleepers, deadline);
        // The sender lives as long as `self`, so the wait can only end by the clock being moved.
        let _ = moved.wait_for(|moved| moved.elapsed >= deadline).await;
    }
}

/// How many sleep until when.
#[derive(Debug, Default)]
struct Sleepers(Mutex<BTreeMap<Duration, usize>>);

impl Sleepers {
    fn join(sleepers: &Arc<Self>, deadline: Duration) -> Sleeper {
        *sleepers.lock().entry(deadline).or_default() += 1;
        Sleeper { sleepers: Arc::clone(sleepers), deadline }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Duration, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of them, until it wakes or gives up.
struct Sleeper {
    sleepers: Arc<Sleepers>,
    deadline: Duration,
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let mut sleepers = self.sleepers.lock();
        match sleepers.get_mut(&self.deadline) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(sleepers.remove(&self.deadline)),
        }
    }
}
