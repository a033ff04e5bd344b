//! Faults of watches, and the history of the store.

use crate::testing::{cluster::Cluster, error::ClusterError, lock::lock};

/// Watches and the history of the store.
///
/// Other faults of watches need no method of their own: [`go_down`](Self::go_down) or
/// [`come_up`](Self::come_up) closes every connection, [`Fault::Status`](crate::testing::Fault)
/// with code 410 or 403 on [`Endpoint::Watch`](crate::testing::Endpoint) or `Endpoint::List` is the
/// answer to new requests, and a user without the permission gets the API server's own 403.
impl Cluster {
    /// Returns the resource version of the latest change.
    #[must_use]
    pub fn resource_version(&self) -> u64 {
        lock(&self.state.objects).revision
    }

    /// Stops the delivery to all open watches: their connections stay open, without events,
    /// bookmarks and an end, like half-open connections. Watches that begin later work.
    ///
    /// ```
    /// use tower_kube_auth::testing::{Cluster, Endpoint};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cluster = Cluster::start().await?;
    /// let client = cluster.admin_client()?;
    /// let request = http::Request::get("/api/v1/pods?watch=true").body(Vec::new())?;
    /// let watch = client.send(request.map(Into::into)).await?;
    /// assert_eq!(cluster.in_flight(Endpoint::Watch), 1);
    /// cluster.stall_watches();
    /// cluster.create_pod("team-a", "robot-0", "robot"); // not delivered
    /// # drop(watch);
    /// # Ok(()) }
    /// ```
    pub fn stall_watches(&self) {
        lock(&self.state.objects).history.stall_watches();
    }

    /// Forgets the changes up to `resource_version`, as the compaction of etcd does. A watch from
    /// before gets an `ERROR` event with code 410, and the remaining pages of a list from before
    /// are HTTP 410. Open watches are not affected.
    pub fn compact(&self, resource_version: u64) {
        let mut objects = lock(&self.state.objects);
        let revision = resource_version.min(objects.revision);
        objects.history.compact(revision);
    }

    /// Restarts the API server with the objects as of `resource_version`, as after restoring a
    /// backup of etcd: later objects are gone, objects deleted since exist again, and resource
    /// versions continue from there, so that clients know versions that do not exist yet. Closes
    /// all connections.
    ///
    /// # Errors
    /// If the version is in the future or compacted, or the server cannot listen on the port.
    pub async fn restore(&self, resource_version: u64) -> Result<(), ClusterError> {
        self.go_down().await?;
        let is_restored = lock(&self.state.objects).restore(resource_version);
        self.come_up().await?;
        if is_restored {
            Ok(())
        } else {
            let reason = "the version is in the future or compacted";
            Err(ClusterError::new(format!("cannot restore version {resource_version}"), reason))
        }
    }
}
