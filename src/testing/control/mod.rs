//! Operations of tests on a running cluster.

mod calls;
pub(super) mod clients;
mod etcd_outage;
mod faults;
mod grants;
mod keys;
mod legacy_token;
mod network;
mod objects;
mod projected_volume;
pub(super) mod tokens;
mod users;
mod watches;
