//! Background tasks that end with their owner.

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    runtime::Handle,
    task::{AbortHandle, JoinHandle},
};

use crate::lock::lock;

/// Aborts a task when it is dropped.
#[derive(Debug)]
pub(crate) struct AbortOnDrop(AbortHandle);

impl<T> From<JoinHandle<T>> for AbortOnDrop {
    fn from(task: JoinHandle<T>) -> Self {
        Self(task.abort_handle())
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

    /// Spawns what `task` returns in place of the task with this number, if that still runs: its
    /// runtime may not be driven any more.
    pub(crate) fn replace<F>(
        &self,
        number: u64,
        runtime: &Handle,
        task: impl FnOnce(RunningGuard) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut current = lock(&self.task);
        if self.running() != number {
            return;
        }
        let (last, task_of_last) = &mut *current;
        *last += 1;
        self.running.store(*last, Ordering::Release);
        let guard = RunningGuard { running: Arc::clone(&self.running), number: *last };
        *task_of_last = Some(runtime.spawn(task(guard)).into());
    }
}

/// Tasks that are aborted when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Tasks(Mutex<Vec<AbortOnDrop>>);

impl Tasks {
    pub(crate) fn spawn(&self, runtime: &Handle, task: impl Future<Output = ()> + Send + 'static) {
        // Not under the lock: a runtime that is shutting down drops the task in place, with all
        // that it holds.
        let task = AbortOnDrop::from(runtime.spawn(task));
        let mut tasks = lock(&self.0);
        // Amortised: finished tasks are removed only when the list would grow.
        if tasks.len() == tasks.capacity() {
            tasks.retain(|task| !task.is_finished());
        }
        tasks.push(task);
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
        for _ in 0..2 {
            background.replace(number, driven.handle(), |running| async move {
                let _running = running;
                std::future::pending::<()>().await;
            });
        }
        assert_eq!(background.running(), number + 1);
        drop(stuck);
        assert!(background.is_running(), "the end of the replaced task is not this one's");
        drop(driven);
        assert!(!background.is_running());
    }
}
