//! Users with static tokens.

use std::collections::BTreeMap;

use crate::testing::{cluster::Cluster, lock::lock, state::State, user::User};

/// Users with static tokens.
impl Cluster {
    /// Adds a user with a static token, as `--token-auth-file` does. TokenReview accepts the token,
    /// and its user is not a ServiceAccount.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cluster = tower_kube_auth::testing::Cluster::start().await?;
    /// cluster.add_static_token("s3cr3t", "jane", &["developers"]);
    /// # Ok(()) }
    /// ```
    pub fn add_static_token(&self, token: &str, username: &str, groups: &[&str]) {
        self.state.add_static_token(token, username, groups);
    }
}

impl State {
    pub(in crate::testing) fn add_static_token(
        &self,
        token: &str,
        username: &str,
        groups: &[&str],
    ) {
        let user = User {
            name: username.to_owned(),
            uid: format!("{username}-uid"),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            extra: BTreeMap::new(),
        };
        lock(&self.static_tokens).insert(token.to_owned(), user);
    }
}
