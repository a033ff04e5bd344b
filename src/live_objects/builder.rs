//! The builder of the watched objects.

use super::handle::LiveObjects;
use crate::api_server::ApiServer;

/// Builds [`LiveObjects`].
#[derive(Clone, Debug)]
pub struct LiveObjectsBuilder {
    server: ApiServer,
}

impl LiveObjects {
    /// Starts to build a watch of ServiceAccounts and Pods.
    pub fn builder(server: impl Into<ApiServer>) -> LiveObjectsBuilder {
        LiveObjectsBuilder { server: server.into() }
    }
}

impl LiveObjectsBuilder {
    /// Builds the watch.
    #[must_use]
    pub fn build(self) -> LiveObjects {
        LiveObjects::new(self.server)
    }
}
