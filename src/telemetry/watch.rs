//! The watch of the objects that tokens are bound to.

use std::{fmt, sync::Mutex, time::SystemTime};

use metrics::{Key, Label};

use super::{
    names::{LIVE_OBJECTS_EVENTS, LIVE_OBJECTS_LISTS, LIVE_OBJECTS_SIGN_OF_LIFE},
    recorded::{add, resource, set, timestamp},
};
use crate::lock::lock;

/// Counts an event of a watch.
pub(crate) fn object_event(of: &'static str) {
    add(LIVE_OBJECTS_EVENTS, vec![resource(of)], 1);
}

/// Counts a complete list, and why it was needed.
pub(crate) fn objects_listed(of: &'static str, reason: &'static str) {
    let labels = vec![resource(of), Label::from_static_parts("reason", reason)];
    add(LIVE_OBJECTS_LISTS, labels, 1);
}

/// The last signs of life of one owner's watches. A gauge shows the oldest of each resource, so that
/// no watch hides that another one is silent.
pub(crate) struct SignsOfLife(Mutex<Vec<Sign>>);

struct Sign {
    resource: &'static str,
    /// Unix time; 0 if there was none.
    time: f64,
}

impl SignsOfLife {
    /// Begins with watches of these resources, without a sign of life.
    pub(crate) fn new(resources: impl IntoIterator<Item = &'static str>) -> Self {
        let sign = |resource| Sign { resource, time: 0.0 };
        Self(Mutex::new(resources.into_iter().map(sign).collect()))
    }

    /// Publishes the last sign of life of a watch, by its position.
    pub(crate) fn publish(&self, watch: usize, last: impl FnOnce() -> Option<SystemTime>) {
        let mut signs = lock(&self.0);
        let Some(sign) = signs.get_mut(watch) else { return };
        sign.time = last().map_or(0.0, timestamp);
        let resource = sign.resource;
        let of_resource = signs.iter().filter(|sign| sign.resource == resource);
        // Under the lock, so that no thread replaces a newer value by an older one.
        set_oldest(resource, of_resource.map(|sign| sign.time).fold(f64::INFINITY, f64::min));
    }
}

impl Drop for SignsOfLife {
    /// Nobody waits for a sign any more.
    fn drop(&mut self) {
        for sign in &*lock(&self.0) {
            set_oldest(sign.resource, f64::INFINITY);
        }
    }
}

impl fmt::Debug for SignsOfLife {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignsOfLife").finish_non_exhaustive()
    }
}

fn set_oldest(of: &'static str, time: f64) {
    set(Key::from_parts(LIVE_OBJECTS_SIGN_OF_LIFE, vec![resource(of)]), time);
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn the_gauge_shows_the_watch_of_a_resource_that_is_silent_for_longest() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let shown = |resource: &str| {
            let text = recorder.handle().render();
            let line = text.lines().find(|line| line.contains(&format!("=\"{resource}\"")));
            line.unwrap().rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()
        };
        let signs = SignsOfLife::new(["pods", "pods", "nodes"]);
        let publish = |watch, seconds| {
            signs.publish(watch, || Some(UNIX_EPOCH + Duration::from_secs(seconds)));
        };
        publish(0, 10);
        assert_eq!(shown("pods"), 0.0, "one of two has given a sign");
        publish(1, 30);
        assert_eq!(shown("pods"), 10.0);
        publish(0, 40);
        publish(2, 5);
        assert_eq!((shown("pods"), shown("nodes")), (30.0, 5.0));
        drop(signs);
        assert_eq!((shown("pods"), shown("nodes")), (f64::INFINITY, f64::INFINITY));
    }
}
