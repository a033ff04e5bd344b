//! Scheduling points for shuttle tests; no-ops otherwise.

/// Yields to another thread in a test that explores schedules; otherwise does nothing.
#[inline]
pub(crate) fn sync_point() {
    #[cfg(test)]
    exploring::pass();
}

#[cfg(test)]
pub(crate) mod exploring {
    use std::cell::Cell;

    use shuttle::{
        Config, Runner,
        scheduler::{DfsScheduler, RandomScheduler, Scheduler},
    };

    thread_local! { static IS_EXPLORING: Cell<bool> = const { Cell::new(false) } }

    pub(super) fn pass() {
        if IS_EXPLORING.get() {
            shuttle::thread::yield_now();
        }
    }

    /// Runs `test` once for every order in which its threads can pass their scheduling points. A thread
    /// that is never woken fails it as a deadlock.
    #[expect(clippy::print_stdout, reason = "--nocapture shows the number of schedules")]
    pub(crate) fn every_schedule(test: impl Fn() + Send + Sync + 'static) {
        let schedules = explore(DfsScheduler::new(None, false), test);
        println!("{}: {schedules} schedules", std::thread::current().name().unwrap_or_default());
        assert!(schedules > 100, "the threads share no scheduling point");
    }

    /// Runs `test` for 2 000 random orders, where there are too many to run all.
    pub(crate) fn some_schedules(test: impl Fn() + Send + Sync + 'static) {
        explore(RandomScheduler::new(2_000), test);
    }

    fn explore(
        scheduler: impl Scheduler + 'static,
        test: impl Fn() + Send + Sync + 'static,
    ) -> usize {
        IS_EXPLORING.set(true);
        let mut config = Config::new();
        config.stack_size = 0x8_0000;
        let schedules = Runner::new(scheduler, config).run(test);
        IS_EXPLORING.set(false);
        schedules
    }
}
