//! A counter for what happens with every request.

use std::{
    fmt,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Instant,
};

use super::{labels::Stage, recorded};
use crate::clock::Clock;

const SHARDS: usize = 16;

/// Counts requests that were decided without waiting: tokens accepted from the cache, or requests
/// allowed by an authorizer.
///
/// A counter that all threads write to moves a cache line between cores with every request, and a
/// recorder's counter is one, behind a look-up. So each thread adds to a shard, and the sum goes to the
/// recorder once a second at most, by whichever request comes then. What is left goes there on drop.
pub(crate) struct Hits {
    shards: [Shard; SHARDS],
    /// How many have gone to the recorder.
    published: AtomicU64,
    created: Instant,
    /// The second of the last publication since `created`, plus one; 0 if there was none.
    last: AtomicU64,
    stage: Stage,
}

/// Two cache lines: processors fetch them in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Shard(AtomicU64);

impl Hits {
    pub(crate) fn new(stage: Stage, clock: &Clock) -> Self {
        Self {
            shards: Default::default(),
            published: AtomicU64::new(0),
            created: clock.monotonic(),
            last: AtomicU64::new(0),
            stage,
        }
    }

    #[inline]
    pub(crate) fn increment(&self) {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static SHARD: usize = THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS;
        }
        if let Some(Shard(shard)) = self.shards.get(SHARD.with(|shard| *shard)) {
            shard.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Passes the sum to the recorder, if that has not happened in this second.
    #[inline]
    pub(crate) fn publish_if_due(&self, clock: &Clock) {
        let since = clock.monotonic().saturating_duration_since(self.created);
        let second = since.as_secs().saturating_add(1);
        if self.last.load(Ordering::Relaxed) != second
            && self.last.swap(second, Ordering::Relaxed) != second
        {
            self.publish();
        }
    }

    #[cold]
    fn publish(&self) {
        let sum = self.shards.iter().map(|Shard(shard)| shard.load(Ordering::Relaxed)).sum();
        // Of two threads that come here at once, the one with the lower sum adds nothing.
        let before = self.published.fetch_max(sum, Ordering::Relaxed);
        if sum > before {
            recorded::hits(self.stage, sum - before);
        }
    }
}

impl Drop for Hits {
    fn drop(&mut self) {
        self.publish();
    }
}

impl fmt::Debug for Hits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hits").field("stage", &self.stage).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

    use super::*;

    fn hits() -> (Hits, PrometheusRecorder) {
        let hits = Hits::new(Stage::Authorization, &Clock::system());
        (hits, PrometheusBuilder::new().build_recorder())
    }

    /// Drops `hits` and returns how many have gone to the recorder.
    fn recorded(hits: Hits, recorder: &PrometheusRecorder) -> u64 {
        metrics::with_local_recorder(recorder, || drop(hits));
        let text = recorder.handle().render();
        let prefix = "tower_kube_auth_authorization_attempts_total{result=\"allowed\"} ";
        let values = text.lines().filter_map(|line| line.strip_prefix(prefix));
        values.map(|value| value.parse::<u64>().unwrap()).sum()
    }

    #[test]
    fn hits_of_threads_that_have_ended_are_recorded() {
        let ((hits, recorder), threads) = (hits(), 3 * SHARDS);
        for _ in 0..threads {
            thread::scope(|scope| scope.spawn(|| hits.increment()).join().unwrap());
        }
        assert_eq!(recorded(hits, &recorder), threads as u64);
    }

    #[test]
    fn threads_that_count_and_publish_at_once_record_each_hit_once() {
        const HITS: u64 = 10_000;
        let ((hits, recorder), threads) = (hits(), 8);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    metrics::with_local_recorder(&recorder, || {
                        for _ in 0..HITS {
                            hits.increment();
                            hits.publish();
                        }
                    });
                });
            }
        });
        assert_eq!(recorded(hits, &recorder), threads * HITS);
    }

    #[test]
    fn no_hit_of_threads_that_share_a_shard_is_lost() {
        const HITS: u64 = 100_000;
        let (hits, threads) = (Hits::new(Stage::Authorization, &Clock::system()), 2 * SHARDS);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| (0..HITS).for_each(|_| hits.increment()));
            }
        });
        hits.publish();
        assert_eq!(hits.published.load(Ordering::Relaxed), HITS * threads as u64);
    }
}
