//! The cache of decisions: keyed by a keyed digest of the token, bounded in size and time.

mod accepted;
mod digest;
mod entry;
mod invalidations;
mod lifetimes;
mod verdict_cache;

pub(crate) use digest::{Digest, DigestHasher};
pub(crate) use invalidations::{Invalidation, VerificationStart};
pub(crate) use lifetimes::Lifetimes;
pub(crate) use verdict_cache::{Capacities, VerdictCache};
