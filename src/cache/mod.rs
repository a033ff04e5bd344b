//! The cache of decisions, keyed by a keyed digest and bounded in size and time, and the way to a
//! decision that is not cached: single-flight, limits, background tasks.

mod accepted_cache;
mod caller_shares;
mod digest;
mod entry;
mod invalidations;
mod lifetimes;
mod limit;
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
pub(crate) use read_through::{Load, Lookup, ReadThroughCache, Waiting};
pub(crate) use verdict_cache::{Capacities, VerdictCache};
