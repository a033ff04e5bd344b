//! Advances the manual clock by exactly what the code under test waits for.

use std::{pin::pin, task::Poll, time::Duration};

use tower_kube_auth::testing::ManualClock;

/// The time limit of one attempt of a call to the API server. No pause between attempts is as long.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(3);

/// Drives `work` to its end and returns how long that took by the clock.
///
/// The clock stands still while bytes are on their way, however slow the machine is: it advances only
/// to the end of a sleep *within* `limit`, such as the back-off between two attempts. It advances to
/// the time limit of an attempt or of the call only when `held` says that the API server has received
/// a call that it will not answer. `meanwhile` runs after each step of the clock.
pub async fn wait<T>(
    manual: &ManualClock,
    limit: Duration,
    mut held: impl FnMut() -> bool,
    work: impl Future<Output = T>,
    mut meanwhile: impl AsyncFnMut(),
) -> (T, Duration) {
    let clock = manual.clock();
    let began = clock.monotonic();
    // When an attempt may have begun: at first, and after each step.
    let mut steps = vec![Duration::ZERO];
    let mut work = pin!(work);
    loop {
        if let Poll::Ready(output) =
            std::future::poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await
        {
            return (output, clock.monotonic() - began);
        }
        let now = clock.monotonic() - began;
        let mut is_step = |at: Duration| {
            let is_attempt_limit = steps.iter().any(|step| *step + ATTEMPT_LIMIT == at);
            at > now && at <= limit && (at < limit && !is_attempt_limit || held())
        };
        match manual.next_wake().map(|wake| now + wake) {
            Some(at) if is_step(at) => {
                manual.advance(at - now);
                steps.push(at);
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
