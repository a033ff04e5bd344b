//! Records by way of the installed recorder.
//!
//! Every function asks for the recorder anew: a handle that is kept would stay without effect if the
//! service installs its recorder later. Hits, which are too frequent for that, are counted apart.

use std::{
    ptr,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use http::StatusCode;
use jiff::SignedDuration;
use metrics::{Key, Label, Level, Metadata, Recorder};

#[cfg(all(feature = "jwks", feature = "watch"))]
use super::names::LOCAL_REVIEW_INCONCLUSIVE;
#[cfg(feature = "jwks")]
use super::names::{JWKS_FETCHES, JWKS_LAST_SUCCESS};
use super::{
    labels::{CacheStatus, Measure, Stage},
    names::{
        AUTHENTICATION_ATTEMPTS, AUTHENTICATION_DURATION, AUTHN_REQUEST_DURATION, AUTHN_REQUESTS,
        AUTHORIZATION_ATTEMPTS, AUTHORIZATION_DURATION, AUTHZ_REQUEST_DURATION, AUTHZ_REQUESTS,
        CLOCK_SKEW, FALLBACK_ACTIVE, IN_FLIGHT, JWKS_KEYS, LIVE_OBJECTS, LIVE_OBJECTS_WATCHES,
        TOKEN_CACHE_ENTRIES, TOKEN_CACHE_REQUESTS, TOKEN_SOURCE_EXPIRY, TOKEN_SOURCE_LAST_SUCCESS,
        TOKEN_SOURCE_REFRESHES, WAITING, describe,
    },
};
use crate::clock::Clock;

const METADATA: Metadata<'static> =
    Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// Counts a request whose caller was decided about.
pub(crate) fn attempt(stage: Stage, result: &'static str) {
    let name = match stage {
        Stage::Authentication => AUTHENTICATION_ATTEMPTS,
        Stage::Authorization => AUTHORIZATION_ATTEMPTS,
    };
    count(name, Label::from_static_parts("result", result));
}

/// Counts what [`Hits`](super::Hits) has summed up.
pub(super) fn hits(stage: Stage, number: u64) {
    match stage {
        Stage::Authentication => {
            let accepted = Label::from_static_parts("result", "accepted");
            add(AUTHENTICATION_ATTEMPTS, vec![accepted], number);
            add(TOKEN_CACHE_REQUESTS, vec![Label::from_static_parts("status", "hit")], number);
        }
        Stage::Authorization => {
            let allowed = Label::from_static_parts("result", "allowed");
            add(AUTHORIZATION_ATTEMPTS, vec![allowed], number);
        }
    }
}

/// Records a decision that was not cached, and how long it took.
pub(crate) fn decided(stage: Stage, result: &'static str, began: Instant, clock: &Clock) {
    let name = match stage {
        Stage::Authentication => AUTHENTICATION_DURATION,
        Stage::Authorization => AUTHORIZATION_DURATION,
    };
    observe(name, Label::from_static_parts("result", result), began, clock);
}

/// Counts a look-up of a token in the cache.
pub(crate) fn token_cache(status: CacheStatus) {
    let status = match status {
        CacheStatus::Hit => "hit",
        CacheStatus::Miss => "miss",
    };
    count(TOKEN_CACHE_REQUESTS, Label::from_static_parts("status", status));
}

/// One attempt of a review at the API server. Recorded when it is dropped, because a time limit may
/// end it.
pub(crate) struct ApiCall {
    stage: Option<Stage>,
    began: Instant,
    clock: Clock,
    status: Option<StatusCode>,
}

impl ApiCall {
    /// Begins an attempt. Without a stage it is no review, and is not recorded.
    pub(crate) fn begin(stage: Option<Stage>, clock: &Clock) -> Self {
        Self { stage, began: clock.monotonic(), clock: clock.clone(), status: None }
    }

    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }
}

impl Drop for ApiCall {
    fn drop(&mut self) {
        let (requests, duration) = match self.stage {
            Some(Stage::Authentication) => (AUTHN_REQUESTS, AUTHN_REQUEST_DURATION),
            Some(Stage::Authorization) => (AUTHZ_REQUESTS, AUTHZ_REQUEST_DURATION),
            None => return,
        };
        let code = match self.status {
            Some(status) => Label::new("code", status.as_str().to_owned()),
            None => Label::from_static_parts("code", "error"),
        };
        count(requests, code.clone());
        observe(duration, code, self.began, &self.clock);
    }
}

/// Counts a fetch of keys.
#[cfg(feature = "jwks")]
pub(crate) fn keys_fetched(result: &'static str) {
    count(JWKS_FETCHES, Label::from_static_parts("result", result));
}

/// Notes that keys were loaded now.
#[cfg(feature = "jwks")]
pub(crate) fn keys_loaded(clock: &Clock) {
    set(Key::from_static_name(JWKS_LAST_SUCCESS), timestamp(clock.wall()));
}

/// Counts an attempt to get a token to send, and notes when it expires.
pub(crate) fn token_refreshed(result: Result<Option<SystemTime>, &'static str>, clock: &Clock) {
    count(
        TOKEN_SOURCE_REFRESHES,
        Label::from_static_parts("result", result.err().unwrap_or("success")),
    );
    if let Ok(expiry) = result {
        set(Key::from_static_name(TOKEN_SOURCE_EXPIRY), expiry.map_or(f64::INFINITY, timestamp));
        set(Key::from_static_name(TOKEN_SOURCE_LAST_SUCCESS), timestamp(clock.wall()));
    }
}

/// Counts a token whose objects the watch could not decide about.
#[cfg(all(feature = "jwks", feature = "watch"))]
pub(crate) fn local_review_inconclusive(reason: &'static str) {
    count(LOCAL_REVIEW_INCONCLUSIVE, Label::from_static_parts("reason", reason));
}

/// Notes how far the API server's clock is ahead.
pub(crate) fn clock_skew(skew: impl FnOnce() -> Option<SignedDuration>) {
    if let Some(skew) = skew() {
        set(Key::from_static_name(CLOCK_SKEW), skew.as_secs_f64());
    }
}

/// Returns the handle of a gauge.
pub(super) fn gauge(recorder: &dyn Recorder, measure: Measure) -> metrics::Gauge {
    let decision = |value| vec![Label::from_static_parts("decision", value)];
    let key = match measure {
        Measure::AcceptedEntries => Key::from_parts(TOKEN_CACHE_ENTRIES, decision("accepted")),
        Measure::RejectedEntries => Key::from_parts(TOKEN_CACHE_ENTRIES, decision("rejected")),
        Measure::InFlight => Key::from_static_name(IN_FLIGHT),
        Measure::Waiting => Key::from_static_name(WAITING),
        Measure::Keys => Key::from_static_name(JWKS_KEYS),
        Measure::ActiveFallbacks => Key::from_static_name(FALLBACK_ACTIVE),
        Measure::LiveObjects(of) => Key::from_parts(LIVE_OBJECTS, vec![resource(of)]),
        Measure::Watches(of, phase) => {
            let labels = vec![resource(of), Label::from_static_parts("phase", phase)];
            Key::from_parts(LIVE_OBJECTS_WATCHES, labels)
        }
    };
    recorder.register_gauge(&key, &METADATA)
}

/// Returns the label for a resource of Kubernetes that is watched.
pub(super) fn resource(name: &'static str) -> Label {
    Label::from_static_parts("resource", name)
}

/// Sets a gauge that shows the last value, whoever set it.
pub(super) fn set(key: Key, value: f64) {
    with_recorder(|recorder, _| recorder.register_gauge(&key, &METADATA).set(value));
}

pub(super) fn timestamp(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn count(name: &'static str, label: Label) {
    add(name, vec![label], 1);
}

pub(super) fn add(name: &'static str, labels: Vec<Label>, number: u64) {
    let key = Key::from_parts(name, labels);
    with_recorder(|recorder, _| recorder.register_counter(&key, &METADATA).increment(number));
}

fn observe(name: &'static str, label: Label, began: Instant, clock: &Clock) {
    let seconds = clock.monotonic().saturating_duration_since(began).as_secs_f64();
    let key = Key::from_parts(name, vec![label]);
    with_recorder(|recorder, _| recorder.register_histogram(&key, &METADATA).record(seconds));
}

/// Calls `record` with the installed recorder, to which the metrics have been described, and with its
/// address.
pub(super) fn with_recorder(record: impl FnOnce(&dyn Recorder, usize)) {
    /// The address of the recorder that was seen last.
    static DESCRIBED_TO: AtomicUsize = AtomicUsize::new(0);

    metrics::with_recorder(|recorder| {
        let address = ptr::from_ref(recorder).cast::<()>().addr();
        // A race describes twice, which has no effect.
        if DESCRIBED_TO.load(Ordering::Relaxed) != address {
            describe(recorder);
            DESCRIBED_TO.store(address, Ordering::Relaxed);
        }
        record(recorder, address);
    });
}
