//! The decision about a token whose signature and claims are verified.

use std::time::SystemTime;

use super::private_claims::{PrivateClaims, UnknownForm};
use crate::{
    live_objects::{Liveness, NamedObject, ObjectKind},
    token::BearerToken,
    verdict::{Acceptance, RejectReason, Verdict},
};

/// What leaves a token undecided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inconclusive {
    /// An object was never seen.
    NotSeen(ObjectKind),
    /// The private claims may name objects of further kinds.
    UnknownForm,
}

impl Inconclusive {
    pub(super) fn message(self) -> &'static str {
        match self {
            Self::NotSeen(ObjectKind::ServiceAccount) => {
                "the watch has not seen the token's ServiceAccount"
            }
            Self::NotSeen(ObjectKind::Pod) => "the watch has not seen the token's Pod",
            Self::NotSeen(ObjectKind::Secret) => "the watch has not seen the token's Secret",
            Self::NotSeen(ObjectKind::Node) => "the watch has not seen the token's Node",
            Self::UnknownForm => "the token may name objects of further kinds",
        }
    }

    /// Returns a short name, for metrics.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::NotSeen(ObjectKind::ServiceAccount) => "service_account_not_seen",
            Self::NotSeen(ObjectKind::Pod) => "pod_not_seen",
            Self::NotSeen(ObjectKind::Secret) => "secret_not_seen",
            Self::NotSeen(ObjectKind::Node) => "node_not_seen",
            Self::UnknownForm => "unknown_form",
        }
    }
}

/// Accepts if all objects of the token exist, by the rules of kube-apiserver
/// (`pkg/serviceaccount/claims.go`): a deleted object rejects. An object that was not seen leaves the
/// token undecided, also if another one has its name: kube-apiserver rejects then, but asks etcd.
pub(super) fn decide(
    token: BearerToken<'_>,
    accepted: Acceptance,
    liveness_of: impl Fn(&NamedObject<'_>) -> Liveness,
    now: SystemTime,
) -> Result<Verdict, Inconclusive> {
    let identity = accepted.identity();
    let claims = PrivateClaims::decode(token);
    let secret = claims.as_ref().map_err(|_| UnknownForm).and_then(PrivateClaims::secret);
    let (secret, has_unknown_form) = match &secret {
        Ok(secret) => (secret.as_ref(), false),
        Err(UnknownForm) => (None, true),
    };
    let secret = secret.map(|secret| NamedObject {
        kind: ObjectKind::Secret,
        namespace: Some(identity.namespace()),
        name: &secret.name,
        uid: secret.uid.as_deref(),
    });
    let mut unknown = None;
    for object in NamedObject::of_identity(identity).chain(secret) {
        let liveness = liveness_of(&object);
        if liveness.remaining(now).is_none() {
            return Ok(Verdict::Reject(RejectReason::Deleted));
        }
        if matches!(liveness, Liveness::Unseen | Liveness::NotWatched) {
            unknown = Some(object.kind);
        }
    }
    match unknown {
        _ if has_unknown_form => Err(Inconclusive::UnknownForm),
        Some(kind) => Err(Inconclusive::NotSeen(kind)),
        None => Ok(Verdict::Accept(accepted)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::IdentityBuilder;

    const NOW: SystemTime = UNIX_EPOCH;

    /// Decides about a token of a Pod with these private claims.
    fn decide_with(
        private: &Value,
        liveness_of: impl Fn(ObjectKind) -> Liveness,
    ) -> Result<Verdict, Inconclusive> {
        let claims = json!({ "kubernetes.io": private }).to_string();
        let token = format!("e30.{}.AA", URL_SAFE_NO_PAD.encode(claims));
        let identity = IdentityBuilder::new("ns", "sa").uid("sa-uid").pod("pod", "pod-uid").build();
        decide(
            BearerToken::parse(&token).unwrap(),
            Acceptance::new(identity),
            |object| {
                assert_eq!(object.namespace, Some("ns"));
                liveness_of(object.kind)
            },
            NOW,
        )
    }

    fn private(secret: &Value) -> Value {
        json!({ "namespace": "ns", "serviceaccount": { "name": "sa" }, "secret": secret })
    }

    #[test]
    fn a_token_is_accepted_only_if_all_its_objects_are_known_to_exist() {
        let secret = json!({ "name": "secret", "uid": "secret-uid" });
        let (bound, unbound) = (private(&secret), private(&Value::Null));
        let rejected = Ok(Verdict::Reject(RejectReason::Deleted));
        let late = Liveness::Deleting { since: NOW - Duration::from_secs(61) };
        let recent = Liveness::Deleting { since: NOW - Duration::from_secs(60) };
        for kind in [ObjectKind::ServiceAccount, ObjectKind::Pod, ObjectKind::Secret] {
            for (liveness, expected) in [
                (Liveness::Deleted, rejected.clone()),
                (late, rejected.clone()),
                (Liveness::Unseen, Err(Inconclusive::NotSeen(kind))),
                (Liveness::NotWatched, Err(Inconclusive::NotSeen(kind))),
            ] {
                let one = |asked| if asked == kind { liveness } else { Liveness::Live };
                assert_eq!(decide_with(&bound, one), expected, "{kind:?}");
            }
            let one = |asked| if asked == kind { recent } else { Liveness::Live };
            assert!(matches!(decide_with(&bound, one), Ok(Verdict::Accept(_))));
        }
        assert!(matches!(decide_with(&unbound, |_| Liveness::Live), Ok(Verdict::Accept(_))));
    }

    #[test]
    fn a_deletion_rejects_whatever_is_unknown_besides() {
        let further = json!({ "namespace": "ns", "serviceaccount": {}, "configmap": {} });
        for private in [private(&Value::Null), further] {
            let verdict = decide_with(&private, |kind| match kind {
                ObjectKind::ServiceAccount => Liveness::Unseen,
                _ => Liveness::Deleted,
            });
            assert_eq!(verdict, Ok(Verdict::Reject(RejectReason::Deleted)));
        }
    }

    #[test]
    fn a_token_with_further_private_claims_is_inconclusive() {
        let further = json!({ "namespace": "ns", "serviceaccount": {}, "configmap": {} });
        let inconclusive = Err(Inconclusive::UnknownForm);
        assert_eq!(decide_with(&further, |_| Liveness::Live), inconclusive);
        let without_uid = private(&json!({ "name": "s" }));
        let not_seen = Err(Inconclusive::NotSeen(ObjectKind::Secret));
        assert_eq!(decide_with(&without_uid, |_| Liveness::NotWatched), not_seen);
    }
}
