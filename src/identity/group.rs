//! The groups that kube-apiserver gives to every ServiceAccount.

pub(super) const ALL_SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
pub(super) const AUTHENTICATED: &str = "system:authenticated";

/// Returns the group of all ServiceAccounts of `namespace`.
pub(super) fn of_namespace(namespace: &str) -> String {
    format!("{ALL_SERVICE_ACCOUNTS}:{namespace}")
}
