//! Time, injected: the only room that reads the operating system's clocks.
//!
//! Two clocks matter to authentication. Token lifetimes (`exp`, `nbf`, `iat`) are wall-clock times set by the issuer;
//! cache lifetimes and back-off are durations and must not change when somebody sets the wall clock. A [`Clock`]
//! gives both, so that a test can move each of them on its own.

use std::{
    fmt,
    future::poll_fn,
    pin::pin,
    task::Poll,
    time::{Duration, Instant, SystemTime},
};

use tokio::task::unconstrained;

/// The source of wall-clock and monotonic time. Defaults to the system's clocks.
///
/// With the `testing` feature, `testing::ManualClock` makes one that moves only when it is told to.
#[derive(Clone, Default)]
pub struct Clock(Source);

#[derive(Clone, Default)]
enum Source {
    #[default]
    System,
    #[cfg(any(test, feature = "testing"))]
    Manual(manual::ManualClock),
}

impl Clock {
    /// The system's clocks.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// The wall-clock time: what `exp`, `nbf` and `iat` are compared with.
    #[must_use]
    #[inline]
    pub fn wall(&self) -> SystemTime {
        match &self.0 {
            #[expect(clippy::disallowed_methods, reason = "this is the one place that may")]
            Source::System => SystemTime::now(),
            #[cfg(any(test, feature = "testing"))]
            Source::Manual(clock) => clock.wall(),
        }
    }

    /// The monotonic time: what cache lifetimes and back-off are measured with.
    #[must_use]
    #[inline]
    pub fn monotonic(&self) -> Instant {
        match &self.0 {
            #[expect(clippy::disallowed_methods, reason = "this is the one place that may")]
            Source::System => Instant::now(),
            #[cfg(any(test, feature = "testing"))]
            Source::Manual(clock) => clock.monotonic(),
        }
    }

    /// Returns once `duration` has passed on the monotonic clock.
    pub async fn sleep(&self, duration: Duration) {
        match &self.0 {
            Source::System => tokio::time::sleep(duration).await,
            #[cfg(any(test, feature = "testing"))]
            Source::Manual(clock) => clock.sleep(duration).await,
        }
    }

    /// Waits for `future`, but no longer than `limit`: `None` if that has passed first.
    pub async fn timeout<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        // A future that is never idle uses up the task's budget, and tokio's timers would not fire without any.
        let (mut future, mut sleep) = (pin!(future), pin!(unconstrained(self.sleep(limit))));
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => sleep.as_mut().poll(cx).map(|()| None),
        })
        .await
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Source::System => "Clock::system",
            #[cfg(any(test, feature = "testing"))]
            Source::Manual(_) => "Clock::manual",
        })
    }
}

#[cfg(any(test, feature = "testing"))]
pub(crate) mod manual {
    use std::{
        sync::Arc,
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
    /// let hands = ManualClock::new();
    /// let clock = hands.clock();
    /// let before = clock.wall();
    /// hands.advance(Duration::from_secs(60));
    /// assert_eq!(clock.wall().duration_since(before).unwrap(), Duration::from_secs(60));
    /// ```
    #[derive(Clone, Debug)]
    pub struct ManualClock {
        base: (Instant, SystemTime),
        moved: Arc<watch::Sender<Moved>>,
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
            Self { base: (system.monotonic(), system.wall()), moved: Arc::new(watch::Sender::new(Moved::default())) }
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
            // The sender lives as long as `self`, so the wait can only end by the clock being moved.
            let _ = moved.wait_for(|moved| moved.elapsed >= deadline).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Clock, manual::ManualClock};
    use std::time::Duration;

    #[test]
    fn a_jump_of_the_wall_clock_leaves_the_monotonic_clock_alone() {
        let hands = ManualClock::new();
        let clock = hands.clock();
        let (wall, monotonic) = (clock.wall(), clock.monotonic());
        hands.jump_back(Duration::from_secs(3600));
        assert_eq!(clock.wall(), wall - Duration::from_secs(3600));
        assert_eq!(clock.monotonic(), monotonic);
        hands.jump_forward(Duration::from_secs(7200));
        assert_eq!(clock.wall(), wall + Duration::from_secs(3600));
        assert_eq!(clock.monotonic(), monotonic);
    }

    #[tokio::test]
    async fn a_sleeper_wakes_when_the_clock_has_been_moved_far_enough() {
        let hands = ManualClock::new();
        let clock = hands.clock();
        let sleeper = tokio::spawn(async move { clock.sleep(Duration::from_secs(10)).await });
        tokio::task::yield_now().await;
        hands.advance(Duration::from_secs(9));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        hands.advance(Duration::from_secs(1));
        sleeper.await.unwrap();
    }

    /// What is always ready uses up the budget that tokio gives a task; the time limit must not starve with it.
    #[tokio::test]
    async fn a_time_limit_ends_what_is_never_idle() {
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        sender.send(()).unwrap();
        let busy = async {
            while let Some(()) = receiver.recv().await {
                sender.send(()).unwrap();
            }
        };
        let (clock, started) = (Clock::system(), Clock::system().monotonic());
        let bounded = async {
            let mut busy = std::pin::pin!(busy);
            let gives_up = std::future::poll_fn(|cx| {
                if clock.monotonic().duration_since(started) > Duration::from_secs(5) {
                    return std::task::Poll::Ready(());
                }
                busy.as_mut().poll(cx)
            });
            Clock::system().timeout(Duration::from_millis(20), gives_up).await
        };
        assert_eq!(bounded.await, None);
    }
}
