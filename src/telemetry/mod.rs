//! The service's metrics, by the facade `metrics`, and its spans. Without the feature `metrics` every
//! function that records a metric is empty.
//!
//! A label's value is always one of a closed set: the name of a variant of an enum of this crate, a
//! word in its code, or an HTTP status. Nothing that a caller chooses is among them.

#[cfg(not(feature = "metrics"))]
mod disabled;
#[cfg(feature = "metrics")]
mod gauges;
#[cfg(feature = "metrics")]
mod hits;
mod labels;
#[cfg(feature = "metrics")]
mod names;
#[cfg(feature = "metrics")]
mod recorded;
mod spans;
#[cfg(all(feature = "metrics", feature = "watch"))]
mod watch;

#[cfg(all(not(feature = "metrics"), feature = "jwks", feature = "watch"))]
pub(crate) use disabled::local_review_inconclusive;
#[cfg(not(feature = "metrics"))]
pub(crate) use disabled::{
    ApiCall, Gauges, Hits, attempt, clock_skew, decided, token_cache, token_refreshed,
};
#[cfg(all(not(feature = "metrics"), feature = "watch"))]
pub(crate) use disabled::{SignsOfLife, object_event, objects_listed};
#[cfg(all(not(feature = "metrics"), feature = "jwks"))]
pub(crate) use disabled::{keys_fetched, keys_loaded};
#[cfg(feature = "metrics")]
pub(crate) use gauges::Gauges;
#[cfg(feature = "metrics")]
pub(crate) use hits::Hits;
pub(crate) use labels::{CacheStatus, Measure, Stage};
#[cfg(all(feature = "metrics", feature = "jwks", feature = "watch"))]
pub(crate) use recorded::local_review_inconclusive;
#[cfg(feature = "metrics")]
pub(crate) use recorded::{ApiCall, attempt, clock_skew, decided, token_cache, token_refreshed};
#[cfg(all(feature = "metrics", feature = "jwks"))]
pub(crate) use recorded::{keys_fetched, keys_loaded};
#[cfg(feature = "jwks")]
pub(crate) use spans::key_fetch_span;
pub(crate) use spans::{api_call_span, record_error, record_status, token_refresh_span};
#[cfg(feature = "server")]
pub(crate) use spans::{decision_span, record_caller, record_result};
#[cfg(all(feature = "metrics", feature = "watch"))]
pub(crate) use watch::{SignsOfLife, object_event, objects_listed};
