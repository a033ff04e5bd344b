//! The objects that a token names, and for how long they last.

use std::time::{Duration, SystemTime};

use super::{handle::LiveObjects, kind::ObjectKind, liveness::Liveness};
use crate::identity::ServiceAccountIdentity;

/// For how long kube-apiserver still accepts the tokens of an object after its deletion timestamp
/// (`pkg/serviceaccount/claims.go`).
const DELETION_LEEWAY: Duration = Duration::from_secs(60);

/// For how long an acceptance is cached that names an object which the watch has not seen: it may
/// have been deleted while the watch was broken, and then no event says so. After that time the
/// verifier decides again, and in most cases the watch has seen the object by then.
const UNSEEN_LEEWAY: Duration = Duration::from_secs(10);

/// An object that a token is valid with only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NamedObject<'a> {
    pub(crate) kind: ObjectKind,
    /// `None` for a Node.
    pub(crate) namespace: Option<&'a str>,
    pub(crate) name: &'a str,
    pub(crate) uid: Option<&'a str>,
}

impl<'a> NamedObject<'a> {
    /// Returns the objects that `identity` names: its ServiceAccount, and the Pod or else the Node
    /// that its token is bound to.
    pub(crate) fn of_identity(identity: &'a ServiceAccountIdentity) -> impl Iterator<Item = Self> {
        let kinds = [ObjectKind::ServiceAccount, ObjectKind::Pod, ObjectKind::Node];
        kinds.into_iter().filter_map(|kind| Self::of_kind(kind, identity))
    }

    /// Returns the one of them that is of this kind. An identity names no Secret. As in
    /// kube-apiserver, the Node of a Pod does not count.
    pub(crate) fn of_kind(kind: ObjectKind, identity: &'a ServiceAccountIdentity) -> Option<Self> {
        let (namespace, bound) = match kind {
            ObjectKind::ServiceAccount => {
                let (name, uid) = (identity.name(), Some(identity.uid()));
                return Some(Self { kind, namespace: Some(identity.namespace()), name, uid });
            }
            ObjectKind::Pod => (Some(identity.namespace()), identity.pod()?),
            ObjectKind::Node if identity.pod().is_none() => (None, identity.node()?),
            ObjectKind::Node | ObjectKind::Secret => return None,
        };
        Some(Self { kind, namespace, name: bound.name, uid: bound.uid })
    }
}

impl Liveness {
    /// Returns for how long tokens of the object are valid, as far as is known. `None` once they no
    /// longer are.
    pub(crate) fn remaining(self, now: SystemTime) -> Option<Duration> {
        match self {
            Self::Live | Self::NotWatched => Some(Duration::MAX),
            Self::Unseen => Some(UNSEEN_LEEWAY),
            Self::Deleting { since } => match since.checked_add(DELETION_LEEWAY) {
                Some(end) => end.duration_since(now).ok(),
                None => Some(Duration::MAX),
            },
            Self::Deleted => None,
        }
    }
}

impl LiveObjects {
    /// Returns what is known about `object`.
    pub(crate) fn liveness_of(&self, object: &NamedObject<'_>) -> Liveness {
        match object.uid {
            Some(uid) => self.liveness(object.kind, object.namespace, object.name, uid),
            None => Liveness::NotWatched,
        }
    }
}

/// Returns for how long all `objects` last, as far as is known. `None` once one of them is gone.
pub(crate) fn remaining<'a>(
    objects: impl IntoIterator<Item = NamedObject<'a>>,
    liveness_of: impl Fn(&NamedObject<'a>) -> Liveness,
    now: SystemTime,
) -> Option<Duration> {
    objects.into_iter().try_fold(Duration::MAX, |left, object| {
        Some(left.min(liveness_of(&object).remaining(now)?))
    })
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::testing::IdentityBuilder;

    const SECOND: Duration = Duration::from_secs(1);

    fn kinds(identity: &ServiceAccountIdentity) -> Vec<(ObjectKind, Option<&str>, &str)> {
        NamedObject::of_identity(identity)
            .map(|object| (object.kind, object.namespace, object.uid.unwrap()))
            .collect()
    }

    #[test]
    fn a_node_counts_only_for_tokens_that_are_bound_to_no_pod() {
        let account = || IdentityBuilder::new("ns", "sa").uid("sa-uid");
        let sa = (ObjectKind::ServiceAccount, Some("ns"), "sa-uid");
        assert_eq!(kinds(&account().build()), [sa]);
        let on_node = account().node("node", "node-uid");
        assert_eq!(kinds(&on_node.clone().build()), [sa, (ObjectKind::Node, None, "node-uid")]);
        let of_pod = on_node.pod("pod", "pod-uid").build();
        assert_eq!(kinds(&of_pod), [sa, (ObjectKind::Pod, Some("ns"), "pod-uid")]);
    }

    #[test]
    fn tokens_last_until_60_s_after_a_deletion_timestamp() {
        let since = UNIX_EPOCH + SECOND * 1_000;
        let deleting = Liveness::Deleting { since };
        for (now, left) in [
            (since - SECOND, Some(61 * SECOND)),
            (since, Some(60 * SECOND)),
            (since + SECOND, Some(59 * SECOND)),
            (since + 60 * SECOND, Some(Duration::ZERO)),
            (since + 61 * SECOND, None),
        ] {
            assert_eq!(deleting.remaining(now), left);
        }
        assert_eq!(Liveness::Deleted.remaining(since), None);
        assert_eq!(Liveness::Unseen.remaining(since), Some(10 * SECOND));
        for unlimited in [Liveness::Live, Liveness::NotWatched] {
            assert_eq!(unlimited.remaining(since), Some(Duration::MAX));
        }
    }

    #[test]
    fn the_object_that_ends_first_decides() {
        let identity = IdentityBuilder::new("ns", "sa").uid("sa-uid").pod("pod", "pod-uid").build();
        let now = UNIX_EPOCH + SECOND * 1_000;
        let deleting = Liveness::Deleting { since: now };
        for (account, pod, left) in [
            (Liveness::Live, Liveness::NotWatched, Some(Duration::MAX)),
            (Liveness::Live, Liveness::Unseen, Some(10 * SECOND)),
            (deleting, Liveness::Unseen, Some(10 * SECOND)),
            (Liveness::Live, deleting, Some(60 * SECOND)),
            (deleting, Liveness::Live, Some(60 * SECOND)),
            (deleting, Liveness::Deleted, None),
            (Liveness::Deleted, Liveness::Live, None),
        ] {
            let liveness = |object: &NamedObject<'_>| match object.kind {
                ObjectKind::ServiceAccount => account,
                _ => pod,
            };
            assert_eq!(remaining(NamedObject::of_identity(&identity), liveness, now), left);
        }
    }
}
