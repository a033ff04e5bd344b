//! Time, injected: the only room that reads the operating system's clocks.
//!
//! Two clocks matter to authentication. Token lifetimes (`exp`, `nbf`, `iat`) are wall-clock times set by the issuer;
//! cache lifetimes and back-off are durations and must not change when somebody sets the wall clock. A [`Clock`]
//! gives both, so that a test can move each of them on its own.

#[cfg(any(test, feature = "testing"))]
pub(crate) mod manual;

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

#[cfg(test)]
mod tests {
    use super::{Clock, manual::ManualClock};
    use std::time::Duration;

    #[test]
    fn a_jump_of_the_wall_clock_leaves_the_monotonic_clock_alone() {
        let manual = ManualClock::new();
        let clock = manual.clock();
        let (wall, monotonic) = (clock.wall(), clock.monotonic());
        manual.jump_back(Duration::from_secs(3600));
        assert_eq!(clock.wall(), wall - Duration::from_secs(3600));
        assert_eq!(clock.monotonic(), monotonic);
        manual.jump_forward(Duration::from_secs(7200));
        assert_eq!(clock.wall(), wall + Duration::from_secs(3600));
        assert_eq!(clock.monotonic(), monotonic);
    }

    #[tokio::test]
    async fn a_sleeper_wakes_when_the_clock_has_been_moved_far_enough() {
        let manual = ManualClock::new();
        let clock = manual.clock();
        let sleeper = tokio::spawn(async move { clock.sleep(Duration::from_secs(10)).await });
        tokio::task::yield_now().await;
        manual.advance(Duration::from_secs(9));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        manual.advance(Duration::from_secs(1));
        sleeper.await.unwrap();
    }

    #[tokio::test]
    async fn the_first_of_the_sleepers_is_known_until_it_wakes_or_gives_up() {
        let manual = ManualClock::new();
        assert_eq!(manual.next_wake(), None);
        let asleep = |seconds| {
            let clock = manual.clock();
            tokio::spawn(async move { clock.sleep(Duration::from_secs(seconds)).await })
        };
        let (gives_up, also_first, last) = (asleep(5), asleep(5), asleep(9));
        tokio::task::yield_now().await;
        assert_eq!(manual.next_wake(), Some(Duration::from_secs(5)));
        gives_up.abort();
        let _ = gives_up.await;
        assert_eq!(manual.next_wake(), Some(Duration::from_secs(5)), "there is another one");
        manual.advance(Duration::from_secs(6));
        assert_eq!(manual.next_wake(), Some(Duration::ZERO), "due, but not awake yet");
        also_first.await.unwrap();
        assert_eq!(manual.next_wake(), Some(Duration::from_secs(3)));
        last.abort();
        let _ = last.await;
        assert_eq!(manual.next_wake(), None);
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
