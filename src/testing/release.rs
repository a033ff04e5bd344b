//! Kubernetes releases that the embedded cluster can behave as.

/// The Kubernetes release that a [`Cluster`](super::Cluster) behaves as, where releases differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Release {
    /// 1.20: tokens have no `jti` and no node, users have no `credential-id`, and no token is bound
    /// to a node.
    V1_20,
    /// 1.36: tokens have a `jti`, and tokens of a scheduled Pod have its node.
    #[default]
    V1_36,
}
