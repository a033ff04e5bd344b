//! What is known about one object.

use std::time::SystemTime;

/// What the watch knows about an object with a certain UID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Liveness {
    /// The object exists.
    Live,
    /// The object exists and is being deleted.
    Deleting {
        /// Its `deletionTimestamp`: the time of the request plus the grace period.
        since: SystemTime,
    },
    /// The object was seen and is gone. Another UID under its name is no proof: that may be its
    /// predecessor, while the watch lags.
    Deleted,
    /// The object should have been seen and was not: it is newer than what the watch has seen, or
    /// was deleted before.
    Unseen,
    /// Its kind or its namespace is not watched, or was not listed yet.
    NotWatched,
}
