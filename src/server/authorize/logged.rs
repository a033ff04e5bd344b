//! What an authorize layer has logged already.

use std::sync::atomic::AtomicBool;

use crate::authenticator::WarnLimit;

/// Shared by the services of one layer, so that no line comes at the rate of requests.
#[derive(Debug, Default)]
pub(super) struct Logged {
    pub(super) missing_layer: AtomicBool,
    pub(super) warn_limit: WarnLimit,
}
