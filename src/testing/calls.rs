//! Counting requests, and waiting for them, so that no test has to sleep.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tokio::sync::watch;

use super::{Cluster, Endpoint, state::lock};

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

#[derive(Default)]
pub(super) struct Calls(Mutex<BTreeMap<Endpoint, Arc<watch::Sender<Tally>>>>);

#[derive(Default)]
pub(super) struct Tally {
    calls: u64,
    in_flight: u64,
    max_in_flight: u64,
}

impl Calls {
    /// Counts a request in; it is in flight until the guard is dropped, which happens too when the caller goes away.
    pub(super) fn arrive(&self, endpoint: Option<Endpoint>) -> InFlight {
        let tallies: Vec<_> =
            endpoint.into_iter().chain([Endpoint::All]).map(|endpoint| self.of(endpoint)).collect();
        for tally in &tallies {
            tally.send_modify(|tally| {
                tally.calls += 1;
                tally.in_flight += 1;
                tally.max_in_flight = tally.max_in_flight.max(tally.in_flight);
            });
        }
        InFlight(tallies)
    }

    fn of(&self, endpoint: Endpoint) -> Arc<watch::Sender<Tally>> {
        lock(&self.0).entry(endpoint).or_default().clone()
    }
}

pub(super) struct InFlight(Vec<Arc<watch::Sender<Tally>>>);

impl Drop for InFlight {
    fn drop(&mut self) {
        for tally in &self.0 {
            tally.send_modify(|tally| tally.in_flight -= 1);
        }
    }
}
