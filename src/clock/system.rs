//! The operating system's clocks. Only this file reads them.

use std::time::{Instant, SystemTime};

#[inline]
#[expect(clippy::disallowed_methods, reason = "the one place that reads this clock")]
pub(super) fn wall() -> SystemTime {
    SystemTime::now()
}

#[inline]
#[expect(clippy::disallowed_methods, reason = "the one place that reads this clock")]
pub(super) fn monotonic() -> Instant {
    Instant::now()
}
