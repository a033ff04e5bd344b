//! Any text as the username of a user in the matching groups.

use tower_kube_auth::{
    identity::UserInfo,
    verdict::{Acceptance, RejectReason},
};

use crate::audiences;

pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    check_username(text);
    check_username(&format!("system:serviceaccount:{text}"));
}

fn check_username(username: &str) {
    // The user is in the group of every possible namespace.
    let groups = username.match_indices(':').map(|(at, _)| &username[at + 1..]).flat_map(|rest| {
        let ends = rest.match_indices(':').map(|(end, _)| end).chain([rest.len()]);
        ends.map(|end| format!("system:serviceaccounts:{}", &rest[..end]))
    });
    let groups = groups.take(64).chain(["system:serviceaccounts".into()]).collect();
    let mut user = UserInfo::default();
    user.username = username.into();
    user.uid = "1".into();
    user.groups = groups;
    let accepted = Acceptance::builder(user, ["orders"]).build(audiences());
    match (accepted, namespace_and_name(username)) {
        (Ok(accepted), Some((namespace, name))) => {
            let identity = accepted.identity();
            assert_eq!((identity.namespace(), identity.name()), (namespace, name));
            assert_eq!(identity.username(), username);
            assert_eq!(username, format!("system:serviceaccount:{namespace}:{name}"));
        }
        (Err(reason), None) => assert_eq!(reason, RejectReason::NotAServiceAccount),
        (Ok(_), None) => panic!("{username:?} is accepted as a ServiceAccount's"),
        (Err(reason), Some(_)) => panic!("{username:?} is a ServiceAccount's: {reason}"),
    }
}

fn namespace_and_name(username: &str) -> Option<(&str, &str)> {
    match username.split(':').collect::<Vec<_>>()[..] {
        ["system", "serviceaccount", namespace, name] if is_service_account(namespace, name) => {
            Some((namespace, name))
        }
        _ => None,
    }
}

/// Checks a DNS label and a DNS subdomain character by character.
pub fn is_service_account(namespace: &str, name: &str) -> bool {
    namespace.len() < 64
        && !namespace.contains('.')
        && is_subdomain(namespace)
        && name.len() < 254
        && is_subdomain(name)
}

/// `[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*`, the expression of
/// apimachinery's validation.
fn is_subdomain(text: &str) -> bool {
    let is_inner = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
    let mut before = '.';
    for character in text.chars() {
        let fits = match character {
            '.' => is_inner(before),
            '-' => before != '.',
            other => is_inner(other),
        };
        if !fits {
            return false;
        }
        before = character;
    }
    is_inner(before)
}
