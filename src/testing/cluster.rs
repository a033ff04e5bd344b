//! Handle to a running embedded cluster.

use std::{fmt, net::SocketAddr, sync::Arc};

use super::{certificates::Authority, server::Server, state::State};

/// A running embedded cluster. See the [module's documentation](super).
///
/// Dropping it stops the server and ends its connections.
pub struct Cluster {
    pub(super) state: Arc<State>,
    pub(super) server: Server,
    pub(super) authority: Authority,
    pub(super) url: String,
    pub(super) admin_token: String,
}

/// Addresses.
impl Cluster {
    /// Returns the API server's URL, such as `https://127.0.0.1:40123`. The port stays the same for
    /// the cluster's life.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the API server's address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Returns the `iss` of issued tokens.
    #[must_use]
    pub fn issuer(&self) -> &str {
        self.state.issuer()
    }

    /// Returns the certificate authority as PEM: the content of `ca.crt` in a Pod.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.authority.pem
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("url", &self.url).finish_non_exhaustive()
    }
}
