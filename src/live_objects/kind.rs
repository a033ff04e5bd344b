//! The kinds of object that a ServiceAccount token can be bound to.

/// A kind of object that a token names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ObjectKind {
    ServiceAccount,
    Pod,
    Secret,
    Node,
}
