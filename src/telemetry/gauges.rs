//! Gauges that add up over their owners.

use std::{fmt, sync::Mutex};

use super::{labels::Measure, recorded};
use crate::lock::lock;

/// One owner's part of `N` gauges. A gauge shows the sum of all parts in the process, for example of
/// the entries of two authenticators. A part is taken away when it is dropped.
///
/// The whole part is added again if the recorder is another one than before, which began at zero.
pub(crate) struct Gauges<const N: usize> {
    measures: [Measure; N],
    published: Mutex<Published<N>>,
}

struct Published<const N: usize> {
    /// The address of the recorder; 0 if nothing was published.
    recorder: usize,
    values: [u64; N],
}

impl<const N: usize> Gauges<N> {
    pub(crate) fn new(measures: [Measure; N]) -> Self {
        Self { measures, published: Mutex::new(Published { recorder: 0, values: [0; N] }) }
    }

    /// Publishes what `read` returns. That is read under the lock, so that no thread replaces a newer
    /// value by an older one.
    pub(crate) fn publish(&self, read: impl FnOnce() -> [u64; N]) {
        let mut published = lock(&self.published);
        let values = read();
        recorded::with_recorder(|recorder, address| {
            let is_new = published.recorder != address;
            let before = if is_new { [0; N] } else { published.values };
            for ((measure, value), before) in self.measures.into_iter().zip(values).zip(before) {
                if is_new || value != before {
                    recorded::gauge(recorder, measure).increment(value as f64 - before as f64);
                }
            }
            *published = Published { recorder: address, values };
        });
    }
}

impl<const N: usize> Drop for Gauges<N> {
    fn drop(&mut self) {
        if lock(&self.published).values != [0; N] {
            self.publish(|| [0; N]);
        }
    }
}

impl<const N: usize> fmt::Debug for Gauges<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gauges").field("measures", &self.measures).finish_non_exhaustive()
    }
}
