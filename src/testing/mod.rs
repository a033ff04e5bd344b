pub use crate::clock::manual::ManualClock;
