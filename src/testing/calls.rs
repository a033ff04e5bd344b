//! Request counts per endpoint, observable so that tests need not sleep.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tokio::sync::watch;

use super::{endpoint::Endpoint, lock::lock};

#[derive(Default)]
pub(super) struct Calls(Mutex<BTreeMap<Endpoint, Arc<watch::Sender<Tally>>>>);

#[derive(Default)]
pub(super) struct Tally {
    pub(super) calls: u64,
    pub(super) in_flight: u64,
    pub(super) max_in_flight: u64,
}

impl Calls {
    /// Counts a request. It is in flight until the guard is dropped, also when the client
    /// disconnects.
    pub(super) fn record(&self, endpoint: Option<Endpoint>) -> InFlight {
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

    pub(super) fn of(&self, endpoint: Endpoint) -> Arc<watch::Sender<Tally>> {
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
