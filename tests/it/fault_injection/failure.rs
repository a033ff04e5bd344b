//! Failures of an API server or of the network in front of it.

use std::time::Duration;

use tower_kube_auth::testing::{Cluster, Endpoint, Fault};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Failure {
    ConnectionRefused,
    Hang,
    TooManyRequests,
    InternalError,
    Unavailable,
    Forbidden,
    Slow,
    UnknownAuthority,
    BrokenJson,
    EmptyBody,
    HugeBody,
    CutConnection,
}

impl Failure {
    /// The `Retry-After` of a 429, in seconds.
    pub const RETRY_AFTER: u64 = 2;
    /// Shorter than the time limit of an attempt.
    pub const SLOW: Duration = Duration::from_secs(2);

    pub async fn begin(self, cluster: &Cluster, endpoint: Endpoint) {
        let status = |code, retry_after| Fault::Status { code, retry_after };
        let fault = match self {
            Self::ConnectionRefused => return cluster.go_down().await.unwrap(),
            Self::UnknownAuthority => return cluster.other_ca().await.unwrap(),
            Self::Hang => Fault::Hang,
            Self::TooManyRequests => status(429, Some(Self::RETRY_AFTER)),
            Self::InternalError => status(500, None),
            Self::Unavailable => status(503, None),
            Self::Forbidden => status(403, None),
            Self::Slow => Fault::Delay(Self::SLOW),
            Self::BrokenJson => Fault::BrokenJson,
            Self::EmptyBody => Fault::EmptyBody,
            Self::HugeBody => Fault::HugeBody,
            Self::CutConnection => Fault::CutConnection,
        };
        cluster.set_fault(endpoint, fault);
    }

    pub async fn end(self, cluster: &Cluster) {
        cluster.clear_faults();
        if matches!(self, Self::ConnectionRefused | Self::UnknownAuthority) {
            cluster.come_up().await.unwrap();
        }
    }

    /// Returns the `Retry-After` that callers receive, in seconds.
    pub fn retry_after(self) -> u64 {
        if self == Self::TooManyRequests { Self::RETRY_AFTER } else { 1 }
    }
}
