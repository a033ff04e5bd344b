//! Groups and extras in little memory: a cache holds many thousands of identities, most of them
//! alike in form.

use std::{fmt, slice};

use super::{
    extra_key,
    group::{ALL_SERVICE_ACCOUNTS, AUTHENTICATED},
};

/// The groups of a ServiceAccount: nearly always the three that kube-apiserver gives, of which one
/// differs between namespaces.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Groups {
    /// All ServiceAccounts, those of the namespace (held here), everybody authenticated.
    Standard(Box<str>),
    Other(Texts),
}

impl Groups {
    pub(super) fn new(mut groups: Vec<String>) -> Self {
        match &mut groups[..] {
            [all, namespace, authenticated]
                if all == ALL_SERVICE_ACCOUNTS && authenticated == AUTHENTICATED =>
            {
                Self::Standard(std::mem::take(namespace).into())
            }
            _ => Self::Other(groups.into_iter().map(Box::from).collect()),
        }
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        let length = match self {
            Self::Standard(_) => 3,
            Self::Other(groups) => groups.len(),
        };
        (0..length).map(move |position| match (self, position) {
            (Self::Standard(_), 0) => ALL_SERVICE_ACCOUNTS,
            (Self::Standard(namespace), 1) => namespace,
            (Self::Standard(_), _) => AUTHENTICATED,
            (Self::Other(groups), position) => groups.get(position).map_or("", |group| &**group),
        })
    }
}

impl fmt::Debug for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A key of `UserInfo.extra` with its values: nearly always a known key with one value.
#[derive(Clone)]
pub(super) enum Extra {
    /// The position of the key in [`extra_key::ALL`], and the value.
    Known(u8, Box<str>),
    Other(Box<(Box<str>, Texts)>),
}

type Texts = Box<[Box<str>]>;

impl Extra {
    #[cfg(feature = "jwks")]
    pub(super) fn one(key: &str, value: Box<str>) -> Self {
        match known(key) {
            Some(position) => Self::Known(position, value),
            None => Self::Other(Box::new((key.into(), Box::new([value])))),
        }
    }

    pub(super) fn new(key: String, values: Vec<String>) -> Self {
        match (known(&key), <[String; 1]>::try_from(values)) {
            (Some(position), Ok([value])) => Self::Known(position, value.into()),
            (_, values) => {
                let values = values.map_or_else(|several| several, Vec::from);
                Self::Other(Box::new((key.into(), values.into_iter().map(Box::from).collect())))
            }
        }
    }

    pub(super) fn key(&self) -> &str {
        match self {
            Self::Known(position, _) => {
                extra_key::ALL.get(usize::from(*position)).copied().unwrap_or_default()
            }
            Self::Other(other) => &other.0,
        }
    }

    pub(super) fn values(&self) -> &[Box<str>] {
        match self {
            Self::Known(_, value) => slice::from_ref(value),
            Self::Other(other) => &other.1,
        }
    }
}

fn known(key: &str) -> Option<u8> {
    extra_key::ALL
        .into_iter()
        .zip(0..)
        .find_map(|(known, position)| (known == key).then_some(position))
}

impl PartialEq for Extra {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key() && self.values() == other.values()
    }
}

impl Eq for Extra {}

impl fmt::Debug for Extra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {:?}", self.key(), self.values())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_keeps_groups() {
        for groups in [
            &[ALL_SERVICE_ACCOUNTS, "system:serviceaccounts:ns", AUTHENTICATED][..],
            &[ALL_SERVICE_ACCOUNTS, "system:serviceaccounts:ns"],
            &[AUTHENTICATED, "system:serviceaccounts:ns", ALL_SERVICE_ACCOUNTS],
            &["a", "b", "c", "d"],
            &[],
        ] {
            let packed = Groups::new(groups.iter().map(ToString::to_string).collect());
            assert_eq!(packed.iter().len(), groups.len());
            assert_eq!(packed.iter().collect::<Vec<_>>(), groups);
        }
    }

    #[test]
    fn packing_keeps_extras() {
        for key in extra_key::ALL.into_iter().chain(["example.org/attestation", ""]) {
            for values in [&[][..], &["a"], &["a", "b"]] {
                let packed =
                    Extra::new(key.into(), values.iter().map(ToString::to_string).collect());
                assert_eq!(packed.key(), key);
                assert_eq!(
                    packed.values().iter().map(|value| &**value).collect::<Vec<_>>(),
                    values
                );
            }
        }
    }
}
