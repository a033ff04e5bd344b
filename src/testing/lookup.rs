//! Lookup of the objects that a token names.

use std::time::Duration;

use super::{
    lock::lock,
    objects::text,
    state::{State, seconds},
};

/// Clock skew that the token rules tolerate, in seconds.
pub(super) const LEEWAY: i64 = 60;

/// Error of kube-apiserver 1.20.2 when its connection to etcd breaks.
const ETCD_UNAVAILABLE: &str = "rpc error: code = Unavailable desc = transport is closing";

pub(super) struct Found {
    pub(super) uid: String,
    /// Marked for deletion at any time.
    pub(super) marked: bool,
    /// Marked for deletion before the leeway.
    pub(super) deleted: bool,
}

impl State {
    /// Returns the object if it exists, or an error if that cannot be determined.
    pub(super) fn find(
        &self,
        plural: &'static str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Found>, String> {
        let object = match &*lock(&self.watch_cache) {
            Some(known) => Some(
                known
                    .get(plural, namespace, name)
                    .ok_or_else(|| ETCD_UNAVAILABLE.to_owned())?
                    .clone(),
            ),
            None => lock(&self.objects).get(plural, namespace, name).cloned(),
        };
        Ok(object.map(|object| {
            let marked = seconds(text(&object, "/metadata/deletionTimestamp"));
            Found {
                uid: text(&object, "/metadata/uid").to_owned(),
                marked: marked.is_some(),
                deleted: marked.is_some_and(|at| earlier_than(at, LEEWAY, self.now())),
            }
        }))
    }
}

/// Returns whether `time` is more than `leeway` seconds before `now`.
pub(super) fn earlier_than(time: i64, leeway: i64, now: Duration) -> bool {
    nanoseconds(time.saturating_add(leeway)) < i128::try_from(now.as_nanos()).unwrap_or(i128::MAX)
}

/// Returns whether `time` is more than `leeway` seconds after `now`.
pub(super) fn later_than(time: i64, leeway: i64, now: Duration) -> bool {
    nanoseconds(time.saturating_sub(leeway)) > i128::try_from(now.as_nanos()).unwrap_or(i128::MAX)
}

fn nanoseconds(seconds: i64) -> i128 {
    i128::from(seconds) * 1_000_000_000
}
