//! The metrics' names, units and descriptions.

use metrics::{Recorder, Unit};

/// Prefixes a metric's name with the crate's.
macro_rules! name {
    ($name:literal) => {
        concat!("tower_kube_auth_", $name)
    };
}

pub(super) const AUTHENTICATION_ATTEMPTS: &str = name!("authentication_attempts_total");
pub(super) const AUTHENTICATION_DURATION: &str = name!("authentication_duration_seconds");
pub(super) const TOKEN_CACHE_REQUESTS: &str = name!("token_cache_requests_total");
pub(super) const AUTHN_REQUESTS: &str = name!("delegated_authn_requests_total");
pub(super) const AUTHN_REQUEST_DURATION: &str = name!("delegated_authn_request_duration_seconds");
pub(super) const AUTHORIZATION_ATTEMPTS: &str = name!("authorization_attempts_total");
pub(super) const AUTHORIZATION_DURATION: &str = name!("authorization_duration_seconds");
pub(super) const AUTHZ_REQUESTS: &str = name!("delegated_authz_requests_total");
pub(super) const AUTHZ_REQUEST_DURATION: &str = name!("delegated_authz_request_duration_seconds");
pub(super) const JWKS_FETCHES: &str = name!("jwks_fetches_total");
pub(super) const TOKEN_SOURCE_REFRESHES: &str = name!("token_source_refreshes_total");
pub(super) const LIVE_OBJECTS_EVENTS: &str = name!("live_objects_events_total");
pub(super) const LIVE_OBJECTS_LISTS: &str = name!("live_objects_lists_total");
pub(super) const LOCAL_REVIEW_INCONCLUSIVE: &str = name!("local_review_inconclusive_total");

pub(super) const TOKEN_CACHE_ENTRIES: &str = name!("token_cache_entries");
pub(super) const IN_FLIGHT: &str = name!("verifications_in_flight");
pub(super) const WAITING: &str = name!("verifications_waiting");
pub(super) const JWKS_KEYS: &str = name!("jwks_keys");
pub(super) const JWKS_LAST_SUCCESS: &str = name!("jwks_last_success_timestamp_seconds");
pub(super) const TOKEN_SOURCE_EXPIRY: &str = name!("token_source_expiry_timestamp_seconds");
pub(super) const TOKEN_SOURCE_LAST_SUCCESS: &str =
    name!("token_source_last_success_timestamp_seconds");
pub(super) const FALLBACK_ACTIVE: &str = name!("fallback_active");
pub(super) const CLOCK_SKEW: &str = name!("clock_skew_seconds");
pub(super) const LIVE_OBJECTS: &str = name!("live_objects");
pub(super) const LIVE_OBJECTS_WATCHES: &str = name!("live_objects_watches");
pub(super) const LIVE_OBJECTS_SIGN_OF_LIFE: &str =
    name!("live_objects_last_sign_of_life_timestamp_seconds");

const COUNTERS: [(&str, &str); 10] = [
    (AUTHENTICATION_ATTEMPTS, "Requests whose caller was authenticated, rejected or undecided."),
    (TOKEN_CACHE_REQUESTS, "Look-ups of a token in the cache of decisions."),
    (AUTHN_REQUESTS, "Attempts of TokenReviews, by the status of the API server's response."),
    (AUTHORIZATION_ATTEMPTS, "Requests that were allowed, denied or undecided."),
    (AUTHZ_REQUESTS, "Attempts of SubjectAccessReviews, by the status of the response."),
    (JWKS_FETCHES, "Fetches of an issuer's keys."),
    (TOKEN_SOURCE_REFRESHES, "Attempts to get a token for outgoing requests."),
    (LIVE_OBJECTS_EVENTS, "Events of the watched objects that tokens are bound to."),
    (LIVE_OBJECTS_LISTS, "Complete lists of these objects, by why a list was needed."),
    (LOCAL_REVIEW_INCONCLUSIVE, "Tokens that the watch of their objects could not decide about."),
];

const HISTOGRAMS: [(&str, &str); 4] = [
    (AUTHENTICATION_DURATION, "Verifications that the cache did not answer."),
    (AUTHN_REQUEST_DURATION, "Attempts of TokenReviews."),
    (AUTHORIZATION_DURATION, "Access reviews that the cache did not answer."),
    (AUTHZ_REQUEST_DURATION, "Attempts of SubjectAccessReviews."),
];

const GAUGES: [(&str, Unit, &str); 12] = [
    (TOKEN_CACHE_ENTRIES, Unit::Count, "Decisions about tokens in the cache."),
    (IN_FLIGHT, Unit::Count, "Verifications in flight."),
    (WAITING, Unit::Count, "Verifications that wait for a permit."),
    (JWKS_KEYS, Unit::Count, "Usable keys that are loaded."),
    (JWKS_LAST_SUCCESS, Unit::Seconds, "Time of the last successful fetch of keys."),
    (TOKEN_SOURCE_EXPIRY, Unit::Seconds, "Expiry of the token for outgoing requests."),
    (TOKEN_SOURCE_LAST_SUCCESS, Unit::Seconds, "Time of the last refresh of that token."),
    (FALLBACK_ACTIVE, Unit::Count, "Fallbacks that decide because their verifier is unavailable."),
    (CLOCK_SKEW, Unit::Seconds, "How far the API server's clock is ahead."),
    (LIVE_OBJECTS, Unit::Count, "Watched objects that exist."),
    (LIVE_OBJECTS_WATCHES, Unit::Count, "Watches of these objects, by what they do."),
    (LIVE_OBJECTS_SIGN_OF_LIFE, Unit::Seconds, "Time of the last sign of life of a watch."),
];

/// Describes the metrics to a recorder that is new.
#[cold]
pub(super) fn describe(recorder: &dyn Recorder) {
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
