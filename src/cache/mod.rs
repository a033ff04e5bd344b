//! The cache of decisions, keyed by a keyed digest and bounded in size and time, and the way to a
//! decision that is not cached: single-flight, limits, background tasks.
//!
//! `ReadThroughCache` is built on `VerdictCache`, and that on `AcceptedCache`. A miss becomes the
//! leader of a flight or follows one. The leader polls its load once; if that waits, a task drives
//! it to its end. The outcome is cached before the followers are notified.

mod accepted_cache;
mod caller_shares;
mod digest;
mod entry;
mod flight;
mod invalidations;
mod lifetimes;
mod limit;
mod load;
mod metrics;
mod read_through;
mod recent_failure;
#[cfg(feature = "watch")]
mod revocation;
mod started_loads;
mod verdict_cache;

pub(crate) use self::metrics::CacheMetrics;
pub(crate) use digest::{Digest, DigestWriter};
pub(crate) use invalidations::Invalidation;
pub(crate) use lifetimes::Lifetimes;
pub(crate) use limit::Limit;
pub(crate) use load::Load;
pub(crate) use read_through::{Lookup, ReadThroughCache, Waiting};
pub(crate) use verdict_cache::{Capacities, VerdictCache};
