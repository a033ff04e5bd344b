//! Usernames of ServiceAccounts, read strictly.

use std::fmt;

const PREFIX: &str = "system:serviceaccount:";

/// A username that is exactly a ServiceAccount's: `system:serviceaccount:<namespace>:<name>`.
///
/// The namespace is a DNS label of at most 63 bytes, the name a DNS subdomain of at most 253 (RFC
/// 1123, as kube-apiserver validates them), so neither contains a colon, white space or an
/// upper-case letter.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Username {
    text: Box<str>,
    namespace_end: usize,
}

impl Username {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (namespace, name) = text.strip_prefix(PREFIX)?.split_once(':')?;
        Self::new(namespace, name)
    }

    pub(crate) fn new(namespace: &str, name: &str) -> Option<Self> {
        (is_dns_label(namespace) && is_dns_subdomain(name)).then(|| Self {
            text: format!("{PREFIX}{namespace}:{name}").into(),
            namespace_end: PREFIX.len() + namespace.len(),
        })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn namespace(&self) -> &str {
        self.text.get(PREFIX.len()..self.namespace_end).unwrap_or_default()
    }

    pub(crate) fn name(&self) -> &str {
        self.text.get(self.namespace_end + 1..).unwrap_or_default()
    }
}

impl fmt::Debug for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

/// RFC 1123: at most 63 of `[a-z0-9-]`, beginning and ending with a letter or a digit.
fn is_dns_label(text: &str) -> bool {
    text.len() <= 63 && is_label_of_any_length(text)
}

/// RFC 1123: labels joined by dots, at most 253 bytes in all. Kubernetes does not limit the length
/// of each label.
fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label_of_any_length)
}

fn is_label_of_any_length(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_accounts_username_is_read() {
        let username =
            Username::parse("system:serviceaccount:kube-system:node.controller-2").unwrap();
        assert_eq!((username.namespace(), username.name()), ("kube-system", "node.controller-2"));
    }

    #[test]
    fn everybody_else_is_not_a_service_account() {
        for text in [
            "",
            "admin",
            "system:anonymous",
            "system:node:worker-1",
            "system:serviceaccount:",
            "system:serviceaccount:ns",
            "system:serviceaccount:ns:",
            "system:serviceaccount::name",
            "system:serviceaccount:ns:name:extra",
            "system:serviceaccount:ns:name ",
            " system:serviceaccount:ns:name",
            "System:serviceaccount:ns:name",
            "system:serviceaccount:Ns:name",
            "system:serviceaccount:n.s:name",
            "system:serviceaccount:-ns:name",
            "system:serviceaccount:ns-:name",
            "system:serviceaccount:ns:.name",
            "system:serviceaccount:ns:na..me",
            "system:serviceaccount:ns:na\u{0}me",
            "system:serviceaccount:ns:nämë",
            "system:serviceaccounts:ns:name",
        ] {
            assert!(Username::parse(text).is_none(), "{text:?}");
        }
        assert!(Username::new(&"n".repeat(63), "name").is_some());
        assert!(Username::new(&"n".repeat(64), "name").is_none());
        assert!(Username::new("ns", &"n".repeat(253)).is_some());
        assert!(Username::new("ns", &"n".repeat(254)).is_none());
    }
}
