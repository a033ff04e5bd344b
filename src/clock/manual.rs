//! The clock that only tests move.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::watch;

use super::system;

/// A clock that stands still until a test moves it. Clones share one time.
///
/// ```
/// use std::time::Duration;
/// use tower_kube_auth::testing::ManualClock;
///
/// let manual = ManualClock::new();
/// let clock = manual.clock();
/// let before = clock.wall();
/// manual.advance(Duration::from_secs(60));
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
    /// Returns a clock that starts at the system's time.
    #[must_use]
    pub fn new() -> Self {
        Self {
            base: (system::monotonic(), system::wall()),
            moved: Arc::new(watch::Sender::new(Moved::default())),
            sleepers: Arc::default(),
        }
    }

    /// Advances both clocks by `duration` and wakes the sleepers whose deadline has passed.
    pub fn advance(&self, duration: Duration) {
        self.moved.send_modify(|moved| moved.elapsed += duration);
    }

    /// Sets the wall clock forward, as an operator or NTP does. The monotonic clock stays.
    pub fn jump_forward(&self, duration: Duration) {
        self.moved.send_modify(|moved| moved.wall_ahead += duration);
    }

    /// Sets the wall clock back. The monotonic clock stays.
    pub fn jump_back(&self, duration: Duration) {
        self.moved.send_modify(|moved| moved.wall_behind += duration);
    }

    /// Returns the time until the first sleeper wakes: zero if it is due, `None` if there is none.
    /// By advancing by this time, a test lets exactly as much time pass as the code under test
    /// waits for.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_kube_auth::testing::ManualClock;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let manual = ManualClock::new();
    /// let clock = manual.clock();
    /// let sleeper = tokio::spawn(async move { clock.sleep(Duration::from_secs(10)).await });
    /// tokio::task::yield_now().await;
    /// manual.advance(Duration::from_secs(9));
    /// assert_eq!(manual.next_wake(), Some(Duration::from_secs(1)));
    /// manual.advance(Duration::from_secs(1));
    /// sleeper.await.unwrap();
    /// assert_eq!(manual.next_wake(), None);
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
        let _sleeper = Sleepers::register(&self.sleepers, deadline);
        // `self` keeps the sender alive, so only a move of the clock ends the wait.
        let _ = moved.wait_for(|moved| moved.elapsed >= deadline).await;
    }
}

/// The number of sleepers per deadline.
#[derive(Debug, Default)]
struct Sleepers(Mutex<BTreeMap<Duration, usize>>);

impl Sleepers {
    fn register(sleepers: &Arc<Self>, deadline: Duration) -> Sleeper {
        *sleepers.lock().entry(deadline).or_default() += 1;
        Sleeper { sleepers: Arc::clone(sleepers), deadline }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Duration, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A registered sleeper, removed on drop.
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
