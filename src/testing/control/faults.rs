//! Fault injection.

use crate::testing::{cluster::Cluster, endpoint::Endpoint, fault::Fault};

/// Fault injection.
impl Cluster {
    /// Injects a fault into an endpoint until [`clear_faults`](Self::clear_faults) or another fault
    /// for the same endpoint.
    ///
    /// It applies before authentication, like a failure in front of the API server. A fault of a
    /// single endpoint takes precedence over one of [`Endpoint::All`].
    ///
    /// ```
    /// use tower_kube_auth::testing::{Cluster, Endpoint, Fault};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cluster = Cluster::start().await?;
    /// let client = cluster.kube_client()?;
    /// let jwks = || http::Request::get("/openid/v1/jwks").body(Vec::new()).unwrap();
    ///
    /// cluster.set_fault(Endpoint::Jwks, Fault::Status { code: 403, retry_after: None });
    /// assert!(client.request_text(jwks()).await.is_err());
    /// cluster.clear_faults();
    /// assert!(client.request_text(jwks()).await.is_ok());
    /// assert_eq!(cluster.calls(Endpoint::Jwks), 2);
    /// # Ok(()) }
    /// ```
    pub fn set_fault(&self, endpoint: Endpoint, fault: Fault) {
        self.state.faults.set(endpoint, fault, u64::MAX);
    }

    /// Injects a fault into the next `times` requests to an endpoint.
    pub fn set_fault_times(&self, endpoint: Endpoint, fault: Fault, times: u64) {
        self.state.faults.set(endpoint, fault, times);
    }

    /// Removes all faults. Requests that already hang keep hanging.
    pub fn clear_faults(&self) {
        self.state.faults.clear();
    }
}
