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
use metrics::{Key, Label, Level, Metadata, Recorder, Unit};

use super::labels::{CacheStatus, Measure, Stage};
use crate::clock::Clock;

const METADATA: Metadata<'static> =
    Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// Prefixes a metric's name with the crate's.
macro_rules! name {
    ($name:literal) => {
        concat!("tower_kube_auth_", $name)
    };
}

const AUTHENTICATION_ATTEMPTS: &str = name!("authentication_attempts_total");
const AUTHENTICATION_DURATION: &str = name!("authentication_duration_seconds");
const TOKEN_CACHE_REQUESTS: &str = name!("token_cache_requests_total");
const AUTHN_REQUESTS: &str = name!("delegated_authn_requests_total");
const AUTHN_REQUEST_DURATION: &str = name!("delegated_authn_request_duration_seconds");
const AUTHORIZATION_ATTEMPTS: &str = name!("authorization_attempts_total");
const AUTHORIZATION_DURATION: &str = name!("authorization_duration_seconds");
const AUTHZ_REQUESTS: &str = name!("delegated_authz_requests_total");
const AUTHZ_REQUEST_DURATION: &str = name!("delegated_authz_request_duration_seconds");
const JWKS_FETCHES: &str = name!("jwks_fetches_total");
const TOKEN_SOURCE_REFRESHES: &str = name!("token_source_refreshes_total");

const TOKEN_CACHE_ENTRIES: &str = name!("token_cache_entries");
const IN_FLIGHT: &str = name!("verifications_in_flight");
const WAITING: &str = name!("verifications_waiting");
const JWKS_KEYS: &str = name!("jwks_keys");
const JWKS_LAST_SUCCESS: &str = name!("jwks_last_success_timestamp_seconds");
const TOKEN_SOURCE_EXPIRY: &str = name!("token_source_expiry_timestamp_seconds");
const TOKEN_SOURCE_LAST_SUCCESS: &str = name!("token_source_last_success_timestamp_seconds");
const FALLBACK_ACTIVE: &str = name!("fallback_active");
const CLOCK_SKEW: &str = name!("clock_skew_seconds");

const COUNTERS: [(&str, &str); 7] = [
    (AUTHENTICATION_ATTEMPTS, "Requests whose caller was authenticated, rejected or undecided."),
    (TOKEN_CACHE_REQUESTS, "Look-ups of a token in the cache of decisions."),
    (AUTHN_REQUESTS, "Attempts of TokenReviews, by the status of the API server's response."),
    (AUTHORIZATION_ATTEMPTS, "Requests that were allowed, denied or undecided."),
    (AUTHZ_REQUESTS, "Attempts of SubjectAccessReviews, by the status of the response."),
    (JWKS_FETCHES, "Fetches of an issuer's keys."),
    (TOKEN_SOURCE_REFRESHES, "Attempts to get a token for outgoing requests."),
];

const HISTOGRAMS: [(&str, &str); 4] = [
    (AUTHENTICATION_DURATION, "Verifications that the cache did not answer."),
    (AUTHN_REQUEST_DURATION, "Attempts of TokenReviews."),
    (AUTHORIZATION_DURATION, "Access reviews that the cache did not answer."),
    (AUTHZ_REQUEST_DURATION, "Attempts of SubjectAccessReviews."),
];

const GAUGES: [(&str, Unit, &str); 9] = [
    (TOKEN_CACHE_ENTRIES, Unit::Count, "Decisions about tokens in the cache."),
    (IN_FLIGHT, Unit::Count, "Verifications in flight."),
    (WAITING, Unit::Count, "Verifications that wait for a permit."),
    (JWKS_KEYS, Unit::Count, "Usable keys that are loaded."),
    (JWKS_LAST_SUCCESS, Unit::Seconds, "Time of the last successful fetch of keys."),
    (TOKEN_SOURCE_EXPIRY, Unit::Seconds, "Expiry of the token for outgoing requests."),
    (TOKEN_SOURCE_LAST_SUCCESS, Unit::Seconds, "Time of the last refresh of that token."),
    (FALLBACK_ACTIVE, Unit::Count, "Fallbacks that decide because their verifier is unavailable."),
    (CLOCK_SKEW, Unit::Seconds, "How far the API server's clock is ahead."),
];

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
            add(AUTHENTICATION_ATTEMPTS, Label::from_static_parts("result", "accepted"), number);
            add(TOKEN_CACHE_REQUESTS, Label::from_static_parts("status", "hit"), number);
        }
        Stage::Authorization => {
            add(AUTHORIZATION_ATTEMPTS, Label::from_static_parts("result", "allowed"), number);
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
    set(JWKS_LAST_SUCCESS, timestamp(clock.wall()));
}

/// Counts an attempt to get a token to send, and notes when it expires.
pub(crate) fn token_refreshed(result: Result<Option<SystemTime>, &'static str>, clock: &Clock) {
    count(
        TOKEN_SOURCE_REFRESHES,
        Label::from_static_parts("result", result.err().unwrap_or("success")),
    );
    if let Ok(expiry) = result {
        set(TOKEN_SOURCE_EXPIRY, expiry.map_or(f64::INFINITY, timestamp));
        set(TOKEN_SOURCE_LAST_SUCCESS, timestamp(clock.wall()));
    }
}

/// Notes how far the API server's clock is ahead.
pub(crate) fn clock_skew(skew: impl FnOnce() -> Option<SignedDuration>) {
    if let Some(skew) = skew() {
        set(CLOCK_SKEW, skew.as_secs_f64());
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
    };
    recorder.register_gauge(&key, &METADATA)
}

/// Sets a gauge that shows the last value, whoever set it.
fn set(name: &'static str, value: f64) {
    let key = Key::from_static_name(name);
    with_recorder(|recorder, _| recorder.register_gauge(&key, &METADATA).set(value));
}

fn timestamp(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn count(name: &'static str, label: Label) {
    add(name, label, 1);
}

fn add(name: &'static str, label: Label, number: u64) {
    let key = Key::from_parts(name, vec![label]);
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

#[cold]
fn describe(recorder: &dyn Recorder) {
    for (name, description) in COUNTERS {
        recorder.describe_counter(name.into(), Some(Unit::Count), description.into());
    }
    for (name, unit, description) in GAUGES {
        recorder.describe_gauge(name.into(), Some(unit), description.into());
    }
    for (name, description) in HISTOGRAMS {
        recorder.describe_histogram(name.into(), Some(Unit::Seconds), description.into());
    }
}
