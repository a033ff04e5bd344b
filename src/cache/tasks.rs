//! The tasks of a read-through cache, aborted when its last handle is dropped.

use std::{future::Future, sync::Mutex};

use tokio::runtime::Handle;

use crate::{background_task::AbortOnDrop, lock::lock};

#[derive(Default)]
pub(super) struct Tasks(Mutex<Vec<AbortOnDrop>>);

impl Tasks {
    pub(super) fn spawn(&self, runtime: &Handle, task: impl Future<Output = ()> + Send + 'static) {
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
