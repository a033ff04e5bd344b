//! A token kept fresh: read without a lock, replaced by one background task that ends with the last
//! handle.

mod fetch;
mod handle;
mod schedule;
mod shared;
mod task;
#[cfg(test)]
mod tests;

pub(super) use fetch::{Fetch, Fetched};
pub(super) use handle::Refresher;
pub(super) use schedule::refresh_after;
pub(super) use schedule::reread_after;
