//! State of the API server, shared by the connections and the test.

use std::{
    collections::BTreeMap,
    sync::Mutex,
    time::{Duration, UNIX_EPOCH},
};

use super::{
    calls::Calls, fault::Faults, key_ring::KeyRing, objects::Objects, release::Release, user::User,
};
use crate::clock::Clock;

pub(super) struct State {
    pub(super) clock: Clock,
    pub(super) release: Release,
    /// The first signs, all are accepted (`--service-account-issuer`, repeated).
    pub(super) issuers: Vec<String>,
    pub(super) api_audiences: Vec<String>,
    pub(super) jwks_uri: String,
    pub(super) anonymous: bool,
    pub(super) max_token_lifetime: Option<u64>,
    /// `--token-auth-file`: token → user.
    pub(super) static_tokens: Mutex<BTreeMap<String, User>>,
    pub(super) keys: Mutex<KeyRing>,
    pub(super) objects: Mutex<Objects>,
    /// Objects as of the start of an etcd outage; `None` without one.
    pub(super) watch_cache: Mutex<Option<Objects>>,
    pub(super) faults: Faults,
    pub(super) calls: Calls,
}

impl State {
    /// Returns the time since 1970.
    pub(super) fn now(&self) -> Duration {
        self.clock.wall().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    pub(super) fn issuer(&self) -> &str {
        self.issuers.first().map_or("", String::as_str)
    }
}

/// Formats a time as Kubernetes does: RFC 3339 in UTC with whole seconds.
pub(super) fn rfc3339(since_1970: Duration) -> String {
    let seconds = i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX);
    let timestamp = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
    timestamp.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Parses the format of [`rfc3339`] to seconds since 1970.
pub(super) fn seconds(rfc3339: &str) -> Option<i64> {
    rfc3339.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}
