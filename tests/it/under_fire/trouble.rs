//! What an API server, or the network before it, does on a bad day, and its end.

use std::time::Duration;

use tower_kube_auth::testing::{Cluster, Endpoint, Fault};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trouble {
    ConnectionRefused,
    Hang,
    TooManyRequests,
    InternalError,
    Unavailable,
    Forbidden,
    Slow,
    OtherAuthority,
    BrokenJson,
    EmptyBody,
    HugeBody,
    CutConnection,
}

impl Trouble {
    /// What a 429 asks for.
    pub const RETRY_AFTER: u64 = 2;
    /// Less than the time limit of an attempt.
    pub const SLOW: Duration = Duration::from_secs(2);

    pub async fn begin(self, cluster: &Cluster, endpoint: Endpoint) {
        let status = |code, retry_after| Fault::Status { code, retry_after };
        let fault = match self {
            Self::ConnectionRefused => return cluster.go_down().await.unwrap(),
            Self::OtherAuthority => return cluster.other_ca().await.unwrap(),
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
        if matches!(self, Self::ConnectionRefused | Self::OtherAuthority) {
            cluster.come_up().await.unwrap();
        }
    }

    /// For how many seconds callers are sent away.
    pub fn retry_after(self) -> u64 {
        if self == Self::TooManyRequests { Self::RETRY_AFTER } else { 1 }
    }
}
