//! Letting time pass, and no more of it than the code under test waits for.

use std::{pin::pin, task::Poll, time::Duration};

use tower_kube_auth::testing::ManualClock;

/// Drives `work` to its end and returns how long that took by the clock.
///
/// While bytes are under way time stands still, however slow the machine is: it moves on only to where somebody wakes
/// *within* `limit`, such as the back-off between two attempts. It gets to the limit itself, where the code under test
/// gives up, only when `held` says that an answer has to be waited for. `meanwhile` happens each time that it moves.
pub async fn wait<T>(
    manual: &ManualClock,
    limit: Duration,
    held: impl Fn() -> bool,
    work: impl Future<Output = T>,
    mut meanwhile: impl AsyncFnMut(),
) -> (T, Duration) {
    let clock = manual.clock();
    let began = clock.monotonic();
    let mut work = pin!(work);
    loop {
        if let Poll::Ready(output) =
            std::future::poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await
        {
            return (output, clock.monotonic() - began);
        }
        let left = limit.saturating_sub(clock.monotonic() - began);
        match manual.next_wake() {
            Some(wake) if !wake.is_zero() && (wake < left || (wake == left && held())) => {
                manual.advance(wake);
                meanwhile().await;
            }
            _ => tokio::task::yield_now().await,
        }
    }
}

/// Joins what runs in tasks.
pub async fn all<T: 'static>(tasks: Vec<tokio::task::JoinHandle<T>>) -> Vec<T> {
    let mut done = Vec::with_capacity(tasks.len());
    for task in tasks {
        done.push(task.await.unwrap());
    }
    done
}
