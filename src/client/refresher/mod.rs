//! A token kept fresh: read without a lock, replaced by one background task that ends with the last
//! handle.

mod handle;
mod schedule;
mod task;
#[cfg(test)]
mod tests;

pub(super) use handle::Refresher;
pub(super) use schedule::{refresh_after, reread_after};
pub(super) use task::{Fetch, Fetched};
