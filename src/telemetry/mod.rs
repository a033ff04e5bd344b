//! The service's metrics, by the facade `metrics`. Without the feature of that name every function
//! here is empty.
//!
//! A label's value is always one of a closed set: the name of a variant of an enum of this crate, or
//! an HTTP status. Nothing that a caller chooses is among them.

#[cfg(not(feature = "metrics"))]
mod disabled;
#[cfg(feature = "metrics")]
mod gauges;
#[cfg(feature = "metrics")]
mod hits;
#[cfg(feature = "metrics")]
mod recorded;
mod subject;

#[cfg(not(feature = "metrics"))]
pub(crate) use disabled::{
    ApiCall, Gauges, Hits, attempt, clock_skew, decided, keys_fetched, keys_loaded, token_cache,
    token_refreshed,
};
#[cfg(feature = "metrics")]
pub(crate) use gauges::Gauges;
#[cfg(feature = "metrics")]
pub(crate) use hits::Hits;
#[cfg(feature = "metrics")]
pub(crate) use recorded::{
    ApiCall, attempt, clock_skew, decided, keys_fetched, keys_loaded, token_cache, token_refreshed,
};
pub(crate) use subject::{CacheStatus, Measure, Stage};
