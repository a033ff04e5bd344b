//! Network of the API server: whether it listens, and which certificate it presents.

use crate::testing::{certificates::Authority, cluster::Cluster, error::ClusterError};

/// Network and certificate of the API server.
impl Cluster {
    /// Stops listening and closes all connections. New connections fail; the port stays reserved.
    ///
    /// ```
    /// use tower_kube_auth::testing::Cluster;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cluster = Cluster::start().await?;
    /// let address = cluster.address();
    /// cluster.go_down().await?;
    /// assert!(tokio::net::TcpStream::connect(address).await.is_err());
    /// cluster.come_up().await?;
    /// assert!(tokio::net::TcpStream::connect(address).await.is_ok());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// If the port cannot be reserved.
    pub async fn go_down(&self) -> Result<(), ClusterError> {
        self.server.stop().await.map_err(|error| ClusterError::new("cannot keep the port", error))
    }

    /// Listens again on the same port. Objects, keys and faults are unchanged.
    ///
    /// # Errors
    /// If the server cannot listen on the port.
    pub async fn come_up(&self) -> Result<(), ClusterError> {
        self.serve_as(&self.authority).await
    }

    /// Presents a certificate of another authority, as an impostor would, and closes all
    /// connections. [`come_up`](Self::come_up) restores the original certificate.
    ///
    /// # Errors
    /// If the certificate cannot be generated or the server cannot listen on the port.
    pub async fn other_ca(&self) -> Result<(), ClusterError> {
        let impostor = Authority::generate()?;
        self.serve_as(&impostor).await
    }

    async fn serve_as(&self, authority: &Authority) -> Result<(), ClusterError> {
        let failed = |error| ClusterError::new("cannot listen", error);
        self.server.stop().await.map_err(failed)?;
        self.server.start(authority.server.clone(), self.state.clone()).await.map_err(failed)
    }
}
