//! What remains without the feature `metrics`: nothing.

use std::time::{Instant, SystemTime};

use http::StatusCode;
use jiff::SignedDuration;

use super::labels::{CacheStatus, Measure, Stage};
use crate::clock::Clock;

#[inline]
pub(crate) fn attempt(_: Stage, _: &'static str) {}

#[inline]
pub(crate) fn decided(_: Stage, _: &'static str, _: Instant, _: &Clock) {}

#[inline]
pub(crate) fn token_cache(_: CacheStatus) {}

pub(crate) struct ApiCall;

impl ApiCall {
    #[inline]
    pub(crate) fn begin(_: Option<Stage>, _: &Clock) -> Self {
        Self
    }

    #[inline]
    pub(crate) fn answered(&mut self, _: StatusCode) {}
}

#[cfg(feature = "jwks")]
#[inline]
pub(crate) fn keys_fetched(_: &'static str) {}

#[cfg(feature = "jwks")]
#[inline]
pub(crate) fn keys_loaded(_: &Clock) {}

#[inline]
pub(crate) fn token_refreshed(_: Result<Option<SystemTime>, &'static str>, _: &Clock) {}

#[cfg(all(feature = "jwks", feature = "watch"))]
#[inline]
pub(crate) fn local_review_inconclusive(_: &'static str) {}

#[cfg(feature = "watch")]
#[inline]
pub(crate) fn object_event(_: &'static str) {}

#[cfg(feature = "watch")]
#[inline]
pub(crate) fn objects_listed(_: &'static str, _: &'static str) {}

#[inline]
pub(crate) fn clock_skew(_: impl FnOnce() -> Option<SignedDuration>) {}

#[derive(Debug)]
pub(crate) struct Gauges<const N: usize>;

impl<const N: usize> Gauges<N> {
    #[inline]
    pub(crate) fn new(_: [Measure; N]) -> Self {
        Self
    }

    #[inline]
    pub(crate) fn publish(&self, _: impl FnOnce() -> [u64; N]) {}
}

#[cfg(feature = "watch")]
#[derive(Debug)]
pub(crate) struct SignsOfLife;

#[cfg(feature = "watch")]
impl SignsOfLife {
    #[inline]
    pub(crate) fn new(_: impl IntoIterator<Item = &'static str>) -> Self {
        Self
    }

    #[inline]
    pub(crate) fn publish(&self, _: usize, _: impl FnOnce() -> Option<SystemTime>) {}
}

#[derive(Debug)]
pub(crate) struct Hits;

impl Hits {
    #[inline]
    pub(crate) fn new(_: Stage, _: &Clock) -> Self {
        Self
    }

    #[inline]
    pub(crate) fn increment(&self) {}

    #[inline]
    pub(crate) fn publish_if_due(&self, _: &Clock) {}
}
