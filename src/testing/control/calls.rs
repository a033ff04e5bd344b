//! Request counts, and waiting for requests.

use crate::testing::{cluster::Cluster, endpoint::Endpoint};

/// Request counts.
impl Cluster {
    /// Returns the number of requests since the start, including those that failed.
    #[must_use]
    pub fn calls(&self, endpoint: Endpoint) -> u64 {
        self.state.calls.of(endpoint).borrow().calls
    }

    /// Returns the number of requests in progress.
    #[must_use]
    pub fn in_flight(&self, endpoint: Endpoint) -> u64 {
        self.state.calls.of(endpoint).borrow().in_flight
    }

    /// Returns the largest number of requests that were ever in progress at once.
    #[must_use]
    pub fn max_in_flight(&self, endpoint: Endpoint) -> u64 {
        self.state.calls.of(endpoint).borrow().max_in_flight
    }

    /// Waits until the endpoint has received `count` requests since the start. Requests that hang
    /// count too.
    ///
    /// ```
    /// use tower_kube_auth::testing::{Cluster, Endpoint, Fault};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cluster = Cluster::start().await?;
    /// cluster.set_fault(Endpoint::Jwks, Fault::Hang);
    /// let client = cluster.kube_client()?;
    /// let request = http::Request::get("/openid/v1/jwks").body(Vec::new())?;
    /// let hanging = tokio::spawn(async move { client.request_text(request).await });
    /// cluster.wait_for_calls(Endpoint::Jwks, 1).await;
    /// assert_eq!(cluster.in_flight(Endpoint::Jwks), 1);
    /// hanging.abort();
    /// # Ok(()) }
    /// ```
    pub async fn wait_for_calls(&self, endpoint: Endpoint, count: u64) {
        let mut seen = self.state.calls.of(endpoint).subscribe();
        // Cannot fail: the sender lives as long as `self`.
        let _ = seen.wait_for(|tally| tally.calls >= count).await;
    }
}
