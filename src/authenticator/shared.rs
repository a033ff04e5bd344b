//! The state that all handles of one authenticator share.

use std::sync::Arc;

use super::{
    backend::Backend, precheck::Precheck, recent_failure::RecentFailure, tasks::Tasks,
    warn_limit::WarnLimit,
};
use crate::{
    cache::{Digest, DigestHasher, VerdictCache},
    single_flight,
    verdict::Outcome,
};

/// The verifications under way.
pub(super) type Flights = single_flight::Flights<Digest, Outcome, DigestHasher>;
pub(super) type Leader = single_flight::Leader<Digest, Outcome, DigestHasher>;
pub(super) type Follower = single_flight::Follower<Digest, Outcome, DigestHasher>;

pub(super) struct Shared {
    pub(super) cache: VerdictCache,
    pub(super) flights: Arc<Flights>,
    pub(super) precheck: Precheck,
    pub(super) backend: Arc<Backend>,
    pub(super) tasks: Tasks,
    pub(super) max_token_length: usize,
    pub(super) realm: Arc<str>,
    pub(super) warn_limit: WarnLimit,
    pub(super) recent_failure: RecentFailure,
}
