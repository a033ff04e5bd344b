//! The kinds of object that a ServiceAccount token can be bound to.

use crate::api_server::Purpose;

/// A kind of object that a token names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ObjectKind {
    ServiceAccount,
    Pod,
    Secret,
    Node,
}

impl ObjectKind {
    /// Returns the resource's name in paths and in rules of RBAC.
    pub(super) fn resource(self) -> &'static str {
        match self {
            Self::ServiceAccount => "serviceaccounts",
            Self::Pod => "pods",
            Self::Secret => "secrets",
            Self::Node => "nodes",
        }
    }

    pub(super) fn is_namespaced(self) -> bool {
        self != Self::Node
    }

    /// Returns what the calls are for and which rule they need.
    pub(super) fn purpose(self) -> Purpose {
        let (call, when_forbidden) = match self {
            Self::ServiceAccount => (
                "watching serviceaccounts",
                "give this service's own ServiceAccount a role with the verbs `list` and `watch` \
                 on `serviceaccounts`",
            ),
            Self::Pod => (
                "watching pods",
                "give this service's own ServiceAccount a role with the verbs `list` and `watch` \
                 on `pods`",
            ),
            Self::Secret => (
                "watching secrets",
                "give this service's own ServiceAccount a role with the verbs `list` and `watch` \
                 on `secrets`",
            ),
            Self::Node => (
                "watching nodes",
                "give this service's own ServiceAccount a ClusterRole with the verbs `list` and \
                 `watch` on `nodes`",
            ),
        };
        Purpose { call, when_forbidden, stage: None }
    }
}
