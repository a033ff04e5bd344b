//! Outage of etcd, the API server's store.

use crate::testing::{cluster::Cluster, lock::lock};

/// Outage of etcd.
impl Cluster {
    /// Disconnects the API server from its store, etcd. Until
    /// [`end_etcd_outage`](Self::end_etcd_outage) it verifies tokens with the objects as they are
    /// now, as a real one does with its watch caches. For a ServiceAccount that it does not find
    /// there TokenReview returns `authenticated: false` with the failed lookup as its error. A Pod
    /// or Secret that it does not find counts as deleted.
    ///
    /// Objects can still be created and deleted, as if through another API server. Lists and
    /// watches are not affected.
    ///
    /// ```
    /// use tower_kube_auth::{
    ///     Authenticator, BearerToken, TokenReviewVerifier, error::VerifyErrorKind,
    ///     testing::Cluster,
    /// };
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cluster = Cluster::start().await?;
    /// let verifier = TokenReviewVerifier::new(cluster.kube_client()?);
    /// let auth = Authenticator::builder(verifier).audience("orders").build()?;
    /// cluster.start_etcd_outage();
    /// cluster.create_service_account("shop", "newcomer");
    /// let token = cluster.token("shop", "newcomer").audience("orders").issue()?;
    ///
    /// let undecided = auth.authenticate(BearerToken::parse(&token)?).await.unwrap_err();
    /// assert_eq!(undecided.kind(), VerifyErrorKind::Inconclusive);
    /// cluster.end_etcd_outage();
    /// assert!(auth.authenticate(BearerToken::parse(&token)?).await.is_ok());
    /// # Ok(()) }
    /// ```
    pub fn start_etcd_outage(&self) {
        let known = lock(&self.state.objects).clone();
        *lock(&self.state.watch_cache) = Some(known);
    }

    /// Reconnects the API server to its store.
    pub fn end_etcd_outage(&self) {
        *lock(&self.state.watch_cache) = None;
    }
}
