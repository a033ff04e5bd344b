mod identity;

pub use crate::clock::manual::ManualClock;
pub use identity::IdentityBuilder;
