//! Waiting for conditions, and moving a manual clock no further than the code under test waits.

use std::{pin::pin, task::Poll, time::Duration};

use tokio::{
    task::{JoinHandle, yield_now},
    time::Instant,
};
use tower_kube_auth::testing::ManualClock;

/// Upper bound for a wait in a test that is about to fail.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Lets other tasks run until `condition` holds; fails with `what` if it does not.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let polling = async {
        while !condition().await {
            yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, polling).await;
    assert!(in_time.is_ok(), "timed out waiting until {what}");
}

/// Returns when no task of this current-thread runtime is ready to run: tokio's paused clock
/// advances only then.
pub async fn idle() {
    tokio::time::pause();
    tokio::time::sleep(Duration::from_millis(1)).await;
    tokio::time::resume();
}

/// The time limit of one attempt of a call to the API server. Every pause between attempts is
/// shorter.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(3);

/// Drives `work` to its end and returns its output and how long it took by the clock.
///
/// The clock stands still while bytes are in transit, however slow the machine is: it advances only
/// to the end of a sleep *within* `limit`, such as the back-off between two attempts. It advances
/// to the time limit of an attempt or of the call only if `held` says that the API server has
/// received a call that it will not answer. Calls `meanwhile` after each step of the clock. Fails
/// if neither the work nor the clock gets any further.
pub async fn drive<T>(
    manual: &ManualClock,
    limit: Duration,
    mut held: impl FnMut() -> bool,
    work: impl Future<Output = T>,
    mut meanwhile: impl AsyncFnMut(),
) -> (T, Duration) {
    let clock = manual.clock();
    let began = clock.monotonic();
    // The times at which an attempt may have begun: the start, and each step.
    let mut steps = vec![Duration::ZERO];
    let mut work = pin!(work);
    let mut last_step = Instant::now();
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
                last_step = Instant::now();
                meanwhile().await;
            }
            next => {
                let waited = last_step.elapsed();
                assert!(waited < PATIENCE, "stuck at {now:?} after {steps:?}, before {next:?}");
                yield_now().await;
            }
        }
    }
}

pub async fn join_all<T: 'static>(tasks: Vec<JoinHandle<T>>) -> Vec<T> {
    let mut done = Vec::with_capacity(tasks.len());
    for task in tasks {
        done.push(task.await.unwrap());
    }
    done
}
