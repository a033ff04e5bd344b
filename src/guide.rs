//! Guides: how to do a whole task.

#[doc = include_str!("../docs/on-your-cluster.md")]
pub mod on_your_cluster {}

#[doc = include_str!("../docs/choose-a-verifier.md")]
pub mod choose_a_verifier {}

#[cfg(feature = "config")]
#[doc = include_str!("../docs/configuration.md")]
pub mod configuration {}

#[doc = include_str!("../docs/call-another-service.md")]
pub mod call_another_service {}

#[doc = include_str!("../docs/test-your-service.md")]
pub mod test_your_service {}

#[doc = include_str!("../docs/troubleshooting.md")]
pub mod troubleshooting {}

#[doc = include_str!("../docs/protect-metrics.md")]
pub mod protect_metrics {}

#[doc = include_str!("../docs/behind-nginx.md")]
pub mod behind_nginx {}

#[doc = include_str!("../docs/metrics.md")]
pub mod metrics {}

#[doc = include_str!("../docs/readiness.md")]
pub mod readiness {}

#[doc = include_str!("../docs/reload-and-shutdown.md")]
pub mod reload_and_shutdown {}
