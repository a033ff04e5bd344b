//! The injected clock.
//!
//! Token lifetimes (`exp`, `nbf`, `iat`) are wall-clock times set by the issuer. Cache lifetimes
//! and back-off are durations, which must not change when the wall clock is set. A [`Clock`]
//! provides both times, so that tests can move each of them alone.

#[cfg(any(test, feature = "testing"))]
pub(crate) mod manual;
mod system;

use std::{
    fmt,
    future::poll_fn,
    pin::pin,
    task::Poll,
    time::{Duration, Instant, SystemTime},
};

use tokio::task::unconstrained;

/// A source of wall-clock and monotonic time. Defaults to the system's clocks.
///
/// With the `testing` feature, `testing::ManualClock` provides one that only tests move.
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
    /// Returns the system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// Returns the wall-clock time, to compare with `exp`, `nbf` and `iat`.
    #[must_use]
    #[inline]
    pub fn wall(&self) -> SystemTime {
        match &self.0 {
            Source::System => system::wall(),
            #[cfg(any(test, feature = "testing"))]
            Source::Manual(clock) => clock.wall(),
        }
    }

    /// Returns the monotonic time, to measure cache lifetimes and back-off.
    #[must_use]
    #[inline]
    pub fn monotonic(&self) -> Instant {
        match &self.0 {
            Source::System => system::monotonic(),
            #[cfg(any(test, feature = "testing"))]
            Source::Manual(clock) => clock.monotonic(),
        }
    }

    /// Waits until `duration` has passed on the monotonic clock.
    pub async fn sleep(&self, duration: Duration) {
        match &self.0 {
            Source::System => tokio::time::sleep(duration).await,
            #[cfg(any(test, feature = "testing"))]
            Source::Manual(clock) => clock.sleep(duration).await,
        }
    }

    /// Waits for `future` for at most `limit`; returns `None` if that passes first.
    pub async fn timeout<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        // Unconstrained: a future that is always ready uses up the task's budget, without which
        // tokio's timers do not fire.
        let (mut future, mut sleep) = (pin!(future), pin!(unconstrained(self.sleep(limit))));
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => sleep.as_mut().poll(cx).map(|()| None),
        })
        .await
    }
}

#[cfg(any(test, feature = "testing"))]
impl manual::ManualClock {
    /// Returns the [`Clock`] to pass to the code under test.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock(Source::Manual(self.clone()))
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
    async fn a_sleeper_wakes_when_the_clock_reaches_its_deadline() {
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
    async fn next_wake_is_the_first_sleepers_until_it_wakes_or_is_dropped() {
        let manual = ManualClock::new();
        assert_eq!(manual.next_wake(), None);
        let asleep = |seconds| {
            let clock = manual.clock();
            tokio::spawn(async move { clock.sleep(Duration::from_secs(seconds)).await })
        };
        let (aborted, also_first, last) = (asleep(5), asleep(5), asleep(9));
        tokio::task::yield_now().await;
        assert_eq!(manual.next_wake(), Some(Duration::from_secs(5)));
        aborted.abort();
        let _ = aborted.await;
        assert_eq!(manual.next_wake(), Some(Duration::from_secs(5)), "the other one");
        manual.advance(Duration::from_secs(6));
        assert_eq!(manual.next_wake(), Some(Duration::ZERO), "due, but not polled yet");
        also_first.await.unwrap();
        assert_eq!(manual.next_wake(), Some(Duration::from_secs(3)));
        last.abort();
        let _ = last.await;
        assert_eq!(manual.next_wake(), None);
    }

    #[tokio::test]
    async fn a_timeout_ends_a_future_that_is_never_idle() {
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
