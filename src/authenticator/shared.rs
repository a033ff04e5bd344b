//! The state that all handles of one authenticator share.

use std::sync::Arc;

use super::{backend::Backend, precheck::Precheck, tasks::Tasks};
use crate::{
    cache::{Flights, VerdictCache},
    verdict::Outcome,
};

pub(super) struct Shared {
    pub(super) cache: VerdictCache,
    pub(super) flights: Arc<Flights<Outcome>>,
    pub(super) precheck: Precheck,
    pub(super) backend: Arc<Backend>,
    pub(super) tasks: Tasks,
    pub(super) max_token_length: usize,
    pub(super) realm: Arc<str>,
}
