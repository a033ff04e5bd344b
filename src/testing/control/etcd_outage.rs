//! Looking up what a token speaks of, and being cut off from the store that knows it.

use crate::testing::{cluster::Cluster, lock::lock};

/// The API server's store.
impl Cluster {
    /// Cuts the API server off from its store, etcd. From now on it authenticates tokens by the objects as they are at this
    /// moment, as a real one does from the caches of its watches. A ServiceAccount that it does not find there it would have to
    /// look up in the store: TokenReview says `authenticated: false`, with that trouble as its error. A Pod or Secret that
    /// it does not find counts as deleted.
    ///
    /// Nothing else changes: what is created and deleted meanwhile goes through another API server, so to speak.
    ///
    /// ```
    /// use tower_kube_auth::{Authenticator, BearerToken, TokenReviewVerifier, error::VerifyErrorKind, testing::Cluster};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cluster = Cluster::start().await?;
    /// let auth = Authenticator::builder(TokenReviewVerifier::new(cluster.kube_client()?)).audience("orders").build()?;
    /// cluster.lose_store();
    /// cluster.create_service_account("shop", "newcomer");
    /// let token = cluster.token("shop", "newcomer").audience("orders").issue()?;
    ///
    /// let undecided = auth.authenticate(BearerToken::parse(&token)?).await.unwrap_err();
    /// assert_eq!(undecided.kind(), VerifyErrorKind::Inconclusive);
    /// cluster.regain_store();
    /// assert!(auth.authenticate(BearerToken::parse(&token)?).await.is_ok());
    /// # Ok(()) }
    /// ```
    pub fn lose_store(&self) {
        let known = lock(&self.state.objects).clone();
        *lock(&self.state.without_store) = Some(known);
    }

    /// Connects the API server with its store again.
    pub fn regain_store(&self) {
        *lock(&self.state.without_store) = None;
    }
}
