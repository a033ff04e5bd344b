//! A list of ServiceAccounts, namespaces and groups that are allowed.

use std::{
    collections::HashSet,
    error::Error,
    fmt,
    future::{Future, ready},
    str::FromStr,
};

use super::{
    authorizer::Authorizer,
    decision::{Decision, DenyReason},
    error::AuthorizeError,
    request_head::RequestHead,
};
use crate::identity::{ServiceAccountIdentity, Username};

/// Upper bound for how much of a wrong entry an error quotes, in characters.
const MAX_QUOTED: usize = 64;

const GROUP: &str = "group:";

/// Allows the ServiceAccounts that it lists, whatever they ask for.
///
/// | entry | allows |
/// |---|---|
/// | `shop/checkout`, `shop:checkout`, `system:serviceaccount:shop:checkout` | this ServiceAccount |
/// | `shop/*`, `shop:*` | every ServiceAccount of the namespace |
/// | `group:NAME` | every ServiceAccount of the group, such as `group:system:serviceaccounts:shop` |
///
/// There are no other patterns: a list that is meant for everybody is
/// [`any_authenticated`](Self::any_authenticated). A lookup takes constant time and does not
/// allocate.
///
/// ```
/// use tower_kube_auth::authorizer::AllowList;
///
/// let list = AllowList::new(["shop/checkout", "ops/*", "group:system:serviceaccounts:infra"])?;
/// let from_environment: AllowList = "shop/checkout, ops/*".parse()?;
///
/// let error = AllowList::new(["shop/checkout", "shop-checkout"]).unwrap_err();
/// assert!(error.to_string().contains("\"shop-checkout\""));
/// # let _ = (list, from_environment);
/// # Ok::<(), tower_kube_auth::authorizer::AllowListBuildError>(())
/// ```
#[derive(Clone, Debug)]
pub struct AllowList(Rule);

/// Why an [`AllowList`] could not be built.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AllowListBuildError {
    /// The list has no entry. An empty list does not mean "everybody".
    Empty,
    /// This entry is not of one of the forms.
    InvalidEntry(String),
}

#[derive(Clone, Debug)]
enum Rule {
    AnyAuthenticated,
    Listed(Box<Entries>),
}

#[derive(Clone, Debug, Default)]
struct Entries {
    usernames: HashSet<Box<str>>,
    namespaces: HashSet<Box<str>>,
    groups: HashSet<Box<str>>,
}

impl AllowList {
    /// Builds the list. Entries are read strictly: white space is an error too.
    ///
    /// # Errors
    ///
    /// [`AllowListBuildError`], which names the wrong entry.
    pub fn new<E: AsRef<str>>(
        entries: impl IntoIterator<Item = E>,
    ) -> Result<Self, AllowListBuildError> {
        let mut listed = Entries::default();
        for entry in entries {
            listed.insert(entry.as_ref())?;
        }
        if listed.is_empty() {
            return Err(AllowListBuildError::Empty);
        }
        Ok(Self(Rule::Listed(Box::new(listed))))
    }

    /// Returns a list that allows every authenticated ServiceAccount.
    #[must_use]
    pub fn any_authenticated() -> Self {
        Self(Rule::AnyAuthenticated)
    }

    fn decide(&self, caller: &ServiceAccountIdentity) -> Decision {
        let is_allowed = match &self.0 {
            Rule::AnyAuthenticated => true,
            Rule::Listed(entries) => entries.contains(caller),
        };
        if is_allowed { Decision::Allow } else { Decision::Deny(DenyReason::NotListed) }
    }
}

/// Reads a comma-separated list, as environment variables have it; white space around an entry is
/// ignored.
impl FromStr for AllowList {
    type Err = AllowListBuildError;

    fn from_str(list: &str) -> Result<Self, Self::Err> {
        if list.trim().is_empty() {
            return Err(AllowListBuildError::Empty);
        }
        Self::new(list.split(',').map(str::trim))
    }
}

impl Authorizer for AllowList {
    fn authorize(
        &self,
        caller: &ServiceAccountIdentity,
        _: RequestHead<'_>,
    ) -> impl Future<Output = Result<Decision, AuthorizeError>> + Send {
        ready(Ok(self.decide(caller)))
    }

    fn authorize_now(
        &self,
        caller: &ServiceAccountIdentity,
        _: RequestHead<'_>,
    ) -> Option<Decision> {
        Some(self.decide(caller))
    }
}

impl Entries {
    fn insert(&mut self, entry: &str) -> Result<(), AllowListBuildError> {
        let parsed = match entry.strip_prefix(GROUP) {
            Some(group) => is_group(group).then(|| self.groups.insert(group.into())),
            None => self.insert_service_account(entry),
        };
        parsed.map(drop).ok_or_else(|| {
            AllowListBuildError::InvalidEntry(entry.chars().take(MAX_QUOTED).collect())
        })
    }

    fn insert_service_account(&mut self, entry: &str) -> Option<bool> {
        if let Some(username) = Username::parse(entry) {
            return Some(self.usernames.insert(username.as_str().into()));
        }
        let (namespace, name) = entry.split_once(['/', ':'])?;
        if name == "*" {
            // Any valid name shows whether the namespace is one.
            let namespace = Username::new(namespace, "default")?.namespace().into();
            return Some(self.namespaces.insert(namespace));
        }
        let username = Username::new(namespace, name)?;
        Some(self.usernames.insert(username.as_str().into()))
    }

    fn contains(&self, caller: &ServiceAccountIdentity) -> bool {
        self.usernames.contains(caller.username())
            || self.namespaces.contains(caller.namespace())
            || !self.groups.is_empty() && caller.groups().any(|group| self.groups.contains(group))
    }

    fn is_empty(&self) -> bool {
        self.usernames.is_empty() && self.namespaces.is_empty() && self.groups.is_empty()
    }
}

/// Kubernetes lets a group be any non-empty text; one with white space or a wildcard is a mistake.
fn is_group(name: &str) -> bool {
    !name.is_empty()
        && !name.contains(|character: char| {
            character.is_whitespace() || character.is_control() || character == '*'
        })
}

impl fmt::Display for AllowListBuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str(
                "the allow-list is empty: add an entry, or say AllowList::any_authenticated()",
            ),
            Self::InvalidEntry(entry) => write!(
                f,
                "the allow-list's entry {entry:?} is none of \"namespace/name\", \"namespace/*\", \
                 \"group:NAME\" and \"system:serviceaccount:namespace:name\""
            ),
        }
    }
}

impl Error for AllowListBuildError {}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::testing::IdentityBuilder;

    fn is_allowed(list: &AllowList, namespace: &str, name: &str) -> bool {
        let caller = IdentityBuilder::new(namespace, name).build();
        let decision = list.authorize_now(&caller, RequestHead::from(&Request::new(())));
        decision == Some(Decision::Allow)
    }

    #[test]
    fn a_service_account_is_listed_in_each_of_three_forms() {
        for entry in ["shop/checkout", "shop:checkout", "system:serviceaccount:shop:checkout"] {
            let list = AllowList::new([entry]).unwrap();
            assert!(is_allowed(&list, "shop", "checkout"), "{entry}");
            for (namespace, name) in
                [("shop", "basket"), ("ops", "checkout"), ("shop", "checkout2")]
            {
                assert!(!is_allowed(&list, namespace, name), "{entry}: {namespace}/{name}");
            }
        }
    }

    #[test]
    fn a_wildcard_allows_one_namespace() {
        for entry in ["shop/*", "shop:*"] {
            let list = AllowList::new([entry]).unwrap();
            assert!(is_allowed(&list, "shop", "checkout"));
            assert!(!is_allowed(&list, "shop-2", "checkout"));
            assert!(!is_allowed(&list, "sho", "checkout"));
        }
    }

    #[test]
    fn a_group_allows_its_members() {
        let list = AllowList::new(["group:system:serviceaccounts:shop"]).unwrap();
        assert!(is_allowed(&list, "shop", "checkout"));
        assert!(!is_allowed(&list, "ops", "console"));
    }

    #[test]
    fn a_wrong_entry_is_named() {
        for entry in [
            "",
            "*",
            "*/*",
            "*/checkout",
            "shop",
            "shop/",
            "/checkout",
            "shop/check*",
            "shop/*/x",
            "Shop/checkout",
            "shop/checkout ",
            " shop/checkout",
            "shop checkout",
            "group:",
            "group:*",
            "group:a b",
            "system:serviceaccount:shop:*",
            "system:serviceaccount:shop",
            "shop/checkout/x",
            "a:b:c",
        ] {
            let error = AllowList::new(["ops/console", entry]).unwrap_err();
            assert_eq!(error, AllowListBuildError::InvalidEntry(entry.to_owned()));
            assert!(error.to_string().contains(&format!("{entry:?}")), "{error}");
        }
    }

    #[test]
    fn an_empty_list_is_an_error_and_never_everybody() {
        assert_eq!(AllowList::new([""; 0]).unwrap_err(), AllowListBuildError::Empty);
        for list in ["", " "] {
            assert_eq!(list.parse::<AllowList>().unwrap_err(), AllowListBuildError::Empty);
        }
        for list in [",", "shop/checkout,", "shop/checkout,,ops/*"] {
            let error = list.parse::<AllowList>().unwrap_err();
            assert_eq!(error, AllowListBuildError::InvalidEntry(String::new()), "{list}");
        }
        assert!(is_allowed(&AllowList::any_authenticated(), "shop", "checkout"));
    }

    #[test]
    fn a_comma_separated_list_is_trimmed() {
        let list: AllowList = " shop/checkout , ops/*".parse().unwrap();
        assert!(is_allowed(&list, "shop", "checkout") && is_allowed(&list, "ops", "console"));
    }

    #[test]
    fn a_long_wrong_entry_is_shortened() {
        let error = AllowList::new(["x".repeat(10_000)]).unwrap_err();
        assert!(error.to_string().len() < 300, "{error}");
    }
}
