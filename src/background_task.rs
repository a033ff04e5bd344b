//! Background tasks that end with their owner.

#[cfg(feature = "server")]
use std::time::Duration;
use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::{runtime::Handle, task::JoinHandle};

#[cfg(feature = "server")]
use crate::clock::Clock;
use crate::lock::lock;

/// Aborts a task when it is dropped.
#[derive(Debug)]
pub(crate) struct AbortOnDrop(JoinHandle<()>);

impl From<JoinHandle<()>> for AbortOnDrop {
    fn from(task: JoinHandle<()>) -> Self {
        Self(task)
    }
}

impl AbortOnDrop {
    pub(crate) fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// At most one task, which is started lazily and aborted when this is dropped.
///
/// It starts on first use because a constructor may run outside of a runtime, and again if it has
/// ended with the runtime that it was spawned on.
#[cfg_attr(
    not(feature = "jwks"),
    allow(dead_code, reason = "the key loader asks without starting")
)]
#[derive(Default)]
pub(crate) struct BackgroundTask {
    /// The number of the task that runs; 0 if none does.
    running: Arc<AtomicU64>,
    task: Mutex<(u64, Option<AbortOnDrop>)>,
}

/// Marks a task as running until it is dropped. The task owns it, so the mark also goes if the task
/// panics or its runtime shuts down.
pub(crate) struct RunningGuard {
    running: Arc<AtomicU64>,
    number: u64,
}

impl RunningGuard {
    /// Whether no other task has replaced this one.
    pub(crate) fn is_current(&self) -> bool {
        self.running.load(Ordering::Acquire) == self.number
    }
}

impl Drop for RunningGuard {
    fn drop(&mut self) {
        let (released, ignored) = (Ordering::AcqRel, Ordering::Relaxed);
        let _ = self.running.compare_exchange(self.number, 0, released, ignored);
    }
}

impl BackgroundTask {
    /// Whether the task runs: one atomic read, for the path of a request.
    pub(crate) fn is_running(&self) -> bool {
        self.running() != 0
    }

    /// Returns the number of the task that runs; 0 if none does.
    pub(crate) fn running(&self) -> u64 {
        self.running.load(Ordering::Acquire)
    }

    /// Spawns what `task` returns, unless one runs already. The future has to own the guard.
    ///
    /// A runtime that is shutting down drops the future within this call, under this lock.
    pub(crate) fn start<F>(&self, runtime: &Handle, task: impl FnOnce(RunningGuard) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.replace(0, runtime, task);
    }

    /// Aborts the task. The next [`start`](Self::start) begins another one.
    #[cfg(feature = "jwks")]
    pub(crate) fn stop(&self) {
        let task = lock(&self.task).1.take();
        // Outside of the lock: on a runtime that is shutting down, the task is dropped in place.
        drop(task);
    }

    /// Spawns what `task` returns in place of the task with this number, if that still runs: its
    /// runtime may not be driven any more. Returns whether it did; of concurrent callers, one does.
    pub(crate) fn replace<F>(
        &self,
        number: u64,
        runtime: &Handle,
        task: impl FnOnce(RunningGuard) -> F,
    ) -> bool
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut current = lock(&self.task);
        if self.running() != number {
            return false;
        }
        let (last, task_of_last) = &mut *current;
        *last += 1;
        self.running.store(*last, Ordering::Release);
        let guard = RunningGuard { running: Arc::clone(&self.running), number: *last };
        *task_of_last = Some(runtime.spawn(task(guard)).into());
        true
    }
}

/// Tasks that are aborted when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    tasks: Mutex<Vec<AbortOnDrop>>,
    /// Changes under the lock of `tasks`.
    is_closed: AtomicBool,
}

impl Tasks {
    /// Spawns `task`. After [`shut_down`](Self::shut_down) it is aborted at once.
    pub(crate) fn spawn(&self, runtime: &Handle, task: impl Future<Output = ()> + Send + 'static) {
        // Not under the lock: a runtime that is shutting down drops the task in place, with all
        // that it holds.
        let task = AbortOnDrop::from(runtime.spawn(task));
        let mut tasks = lock(&self.tasks);
        if self.is_closed() {
            return;
        }
        // Amortised: finished tasks are removed only when the list would grow.
        if tasks.len() == tasks.capacity() {
            tasks.retain(|task| !task.is_finished());
        }
        tasks.push(task);
    }

    /// Aborts all tasks.
    pub(crate) fn abort_all(&self) {
        let tasks = std::mem::take(&mut *lock(&self.tasks));
        drop(tasks);
    }

    /// Whether [`shut_down`](Self::shut_down) was called.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Waits for at most `limit` until the tasks end, and aborts the rest. Returns their number.
    #[cfg(feature = "server")]
    pub(crate) async fn shut_down(&self, limit: Duration, clock: &Clock) -> usize {
        let mut tasks = {
            let mut tasks = lock(&self.tasks);
            self.is_closed.store(true, Ordering::Release);
            std::mem::take(&mut *tasks)
        };
        let ended = async {
            for AbortOnDrop(task) in &mut tasks {
                // A panic ends a task too.
                let _ = task.await;
            }
        };
        let _ = clock.timeout(limit, ended).await;
        tasks.retain(|task| !task.is_finished());
        tasks.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().unwrap()
    }

    fn start(background: &BackgroundTask, runtime: &Handle, starts: &mut u32) {
        background.start(runtime, |running| {
            *starts += 1;
            async move {
                let _running = running;
                std::future::pending::<()>().await;
            }
        });
    }

    #[test]
    fn a_task_starts_once_and_again_after_its_runtime_has_ended() {
        let (background, mut starts) = (BackgroundTask::default(), 0);
        let first = runtime();
        for _ in 0..3 {
            start(&background, first.handle(), &mut starts);
        }
        assert!(background.is_running());
        drop(first);
        assert!(!background.is_running());
        let second = runtime();
        start(&background, second.handle(), &mut starts);
        assert!(background.is_running());
        assert_eq!(starts, 2);
    }

    #[test]
    fn the_task_ends_with_its_owner() {
        let (background, mut starts, runtime) = (BackgroundTask::default(), 0, runtime());
        start(&background, runtime.handle(), &mut starts);
        let running = Arc::clone(&background.running);
        drop(background);
        runtime.block_on(tokio::task::yield_now());
        assert_eq!(running.load(Ordering::Acquire), 0);
    }

    #[test]
    fn a_task_whose_runtime_is_not_driven_can_be_replaced_once() {
        let (background, mut starts) = (BackgroundTask::default(), 0);
        let (stuck, driven) = (runtime(), runtime());
        start(&background, stuck.handle(), &mut starts);
        let number = background.running();
        for is_first in [true, false] {
            let has_replaced = background.replace(number, driven.handle(), |running| async move {
                let _running = running;
                std::future::pending::<()>().await;
            });
            assert_eq!(has_replaced, is_first);
        }
        assert_eq!(background.running(), number + 1);
        drop(stuck);
        assert!(background.is_running(), "the end of the replaced task is not this one's");
        drop(driven);
        assert!(!background.is_running());
    }

    #[cfg(feature = "server")]
    #[tokio::test]
    async fn a_task_that_is_spawned_after_the_shutdown_is_aborted() {
        let tasks = Tasks::default();
        assert_eq!(tasks.shut_down(Duration::ZERO, &Clock::system()).await, 0);
        let (held, dropped) = tokio::sync::oneshot::channel::<()>();
        tasks.spawn(&Handle::current(), async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        let in_time = tokio::time::timeout(Duration::from_secs(20), dropped).await;
        assert!(in_time.unwrap().is_err());
    }
}
