//! Request counts, and waiting for requests so that no test has to sleep.

use crate::testing::{cluster::Cluster, endpoint::Endpoint};

/// What was asked of the API server.
impl Cluster {
    /// How many requests reached the endpoint since the start, faults and refusals included.
    #[must_use]
    pub fn calls(&self, endpoint: Endpoint) -> u64 {
        self.state.calls.of(endpoint).borrow().calls
    }

    /// How many requests the endpoint is working on at this moment.
    #[must_use]
    pub fn in_flight(&self, endpoint: Endpoint) -> u64 {
        self.state.calls.of(endpoint).borrow().in_flight
    }

    /// The most requests that the endpoint ever worked on at the same moment.
    #[must_use]
    pub fn max_in_flight(&self, endpoint: Endpoint) -> u64 {
        self.state.calls.of(endpoint).borrow().max_in_flight
    }

    /// Returns once the endpoint has seen `count` requests since the start; at once if it has already. A request
    /// counts from its arrival, so one that hangs counts too.
    ///
    /// ```
    /// use tower_kube_auth::testing::{Cluster, Endpoint, Fault};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cluster = Cluster::start().await?;
    /// cluster.set_fault(Endpoint::Jwks, Fault::Hang);
    /// let client = cluster.kube_client()?;
    /// let hanging = tokio::spawn(async move {
    ///     client.request_text(http::Request::get("/openid/v1/jwks").body(Vec::new()).unwrap()).await
    /// });
    /// cluster.wait_for_calls(Endpoint::Jwks, 1).await;
    /// assert_eq!(cluster.in_flight(Endpoint::Jwks), 1);
    /// hanging.abort();
    /// # Ok(()) }
    /// ```
    pub async fn wait_for_calls(&self, endpoint: Endpoint, count: u64) {
        let mut seen = self.state.calls.of(endpoint).subscribe();
        // The sender lives as long as `self`.
        let _ = seen.wait_for(|tally| tally.calls >= count).await;
    }
}
