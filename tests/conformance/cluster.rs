//! A cluster of any kind, with the operations that the Kubernetes API does not offer.

use std::{error::Error, path::PathBuf};

use kube::{
    Client, Config,
    config::{AuthInfo, KubeConfigOptions, Kubeconfig},
};
use tokio::sync::Mutex;
use tower_kube_auth::testing::{self, Algorithm, Release, SigningKey};

use crate::{
    kube_apiserver::{KubeApiserver, Signing},
    version::Version,
};

/// The usual issuer of a cluster.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// The cluster that a scenario runs against.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Column {
    Embedded(Release),
    /// etcd and kube-apiserver from this folder, started by the suite.
    Assets(PathBuf),
    /// A running cluster, which the suite neither restarts nor reconfigures.
    Kubeconfig(PathBuf),
}

/// The configuration of a cluster.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Options {
    pub(crate) algorithm: Algorithm,
    pub(crate) second_issuer: Option<&'static str>,
}

impl Default for Options {
    fn default() -> Self {
        Self { algorithm: Algorithm::RS256, second_issuer: None }
    }
}

pub(crate) struct TestCluster {
    backing: Backing,
    /// Its address and CA, without a credential.
    reached: Config,
    admin: Config,
    version: Version,
    ca_pem: String,
    static_token: Option<String>,
}

enum Backing {
    Embedded(Box<testing::Cluster>),
    KubeApiserver(Box<Mutex<KubeApiserver>>),
    Existing,
}

type Failure = Box<dyn Error + Send + Sync>;

impl TestCluster {
    pub(crate) async fn start(column: &Column, options: Options) -> Result<Self, Failure> {
        match column {
            Column::Embedded(release) => Self::embedded(*release, options).await,
            Column::Assets(assets) => {
                let mut issuers = vec![ISSUER.to_owned()];
                issuers.extend(options.second_issuer.map(str::to_owned));
                let signing =
                    Signing { keys: vec![SigningKey::generate(options.algorithm)?], issuers };
                let server = KubeApiserver::start(assets, signing).await?;
                let (admin, ca_pem, version) = (
                    server.config(server.admin_token()),
                    server.ca_pem().to_owned(),
                    server.version,
                );
                let token = Some(server.admin_token().to_owned());
                Ok(Self::new(
                    Backing::KubeApiserver(Box::new(Mutex::new(server))),
                    admin,
                    token,
                    version,
                    ca_pem,
                ))
            }
            Column::Kubeconfig(path) => Self::existing(path).await,
        }
    }

    async fn embedded(release: Release, options: Options) -> Result<Self, Failure> {
        let mut builder = testing::Cluster::builder()
            .release(release)
            .issuer(ISSUER)
            .signing_algorithm(options.algorithm);
        let second_issuer = options.second_issuer.filter(|_| release != Release::V1_20);
        if let Some(issuer) = second_issuer {
            builder = builder.issuer(issuer);
        }
        let cluster = builder.start().await?;
        let admin = cluster.kube_config_for(cluster.admin_token());
        let version = Version::of(&Client::try_from(admin.clone())?).await?;
        let ca_pem = cluster.ca_pem().to_owned();
        let token = Some(cluster.admin_token().to_owned());
        Ok(Self::new(Backing::Embedded(Box::new(cluster)), admin, token, version, ca_pem))
    }

    async fn existing(path: &std::path::Path) -> Result<Self, Failure> {
        let kubeconfig = Kubeconfig::read_from(path)?;
        let admin =
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let version = Version::of(&Client::try_from(admin.clone())?).await?;
        let ca_pem = admin.root_cert.iter().flatten().map(|der| pem(der)).collect();
        Ok(Self::new(Backing::Existing, admin, None, version, ca_pem))
    }

    fn new(
        backing: Backing,
        mut admin: Config,
        static_token: Option<String>,
        version: Version,
        ca_pem: String,
    ) -> Self {
        admin.default_retry = false;
        let mut reached = admin.clone();
        // The default of the clients that services have.
        reached.default_retry = true;
        reached.auth_info = AuthInfo::default();
        Self { backing, reached, admin, version, ca_pem, static_token }
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    pub(crate) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Returns the configuration of a client without a credential.
    pub(crate) fn anonymous(&self) -> Config {
        self.reached.clone()
    }

    /// Returns a client with all rights.
    pub(crate) fn admin(&self) -> Client {
        Client::try_from(self.admin.clone()).expect("a client for the admin")
    }

    /// Returns the static token of an admin user. A cluster that the suite did not start has none.
    pub(crate) fn static_token(&self) -> Option<String> {
        self.static_token.clone()
    }

    /// Returns a client that sends `token`.
    pub(crate) fn client_for(&self, token: &str) -> Client {
        let mut config = self.anonymous();
        config.auth_info = AuthInfo { token: Some(token.to_owned().into()), ..AuthInfo::default() };
        Client::try_from(config).expect("a client for a token")
    }

    /// Returns the current signing key of a cluster that the suite started.
    pub(crate) async fn signing_key(&self) -> SigningKey {
        match &self.backing {
            Backing::Embedded(cluster) => cluster.signing_key(),
            Backing::KubeApiserver(server) => {
                server.lock().await.signing.keys.last().cloned().expect("a key")
            }
            Backing::Existing => unreachable!("{EXTERNAL}"),
        }
    }

    /// Closes all connections and accepts no new ones.
    pub(crate) async fn go_down(&self) -> Result<(), Failure> {
        match &self.backing {
            Backing::Embedded(cluster) => Ok(cluster.go_down().await?),
            Backing::KubeApiserver(server) => {
                server.lock().await.down();
                Ok(())
            }
            Backing::Existing => unreachable!("{EXTERNAL}"),
        }
    }

    /// Shuts down gracefully, if the cluster distinguishes that.
    pub(crate) async fn shut_down(&self) -> Result<(), Failure> {
        match &self.backing {
            Backing::KubeApiserver(server) => server.lock().await.shut_down().await,
            Backing::Embedded(_) | Backing::Existing => self.go_down().await,
        }
    }

    /// Serves again, at the same address, with the same objects.
    pub(crate) async fn come_up(&self) -> Result<(), Failure> {
        match &self.backing {
            Backing::Embedded(cluster) => Ok(cluster.come_up().await?),
            Backing::KubeApiserver(server) => server.lock().await.up().await,
            Backing::Existing => unreachable!("{EXTERNAL}"),
        }
    }

    /// Stops etcd and leaves the server running.
    pub(crate) async fn start_etcd_outage(&self) {
        match &self.backing {
            Backing::Embedded(cluster) => cluster.start_etcd_outage(),
            Backing::KubeApiserver(server) => server.lock().await.start_etcd_outage(),
            Backing::Existing => unreachable!("{EXTERNAL}"),
        }
    }

    /// Starts etcd again.
    pub(crate) async fn end_etcd_outage(&self) -> Result<(), Failure> {
        match &self.backing {
            Backing::Embedded(cluster) => cluster.end_etcd_outage(),
            Backing::KubeApiserver(server) => server.lock().await.end_etcd_outage()?,
            Backing::Existing => unreachable!("{EXTERNAL}"),
        }
        Ok(())
    }

    /// Makes the store forget all versions but the latest. kube-apiserver has a watch cache besides,
    /// which forgets at a restart.
    pub(crate) async fn compact(&self) -> Result<(), Failure> {
        match &self.backing {
            Backing::Embedded(cluster) => cluster.compact(cluster.resource_version()),
            Backing::KubeApiserver(server) => server.lock().await.compact_etcd().await?,
            Backing::Existing => unreachable!("{EXTERNAL}"),
        }
        Ok(())
    }

    /// Forgets old versions.
    pub(crate) async fn forget_versions(&self) -> Result<(), Failure> {
        self.compact().await?;
        if matches!(self.backing, Backing::Embedded(_)) {
            return Ok(());
        }
        self.go_down().await?;
        self.come_up().await
    }

    /// Restarts with a new signing key. The old keys still verify.
    pub(crate) async fn restart_with_new_key(&self) -> Result<(), Failure> {
        self.go_down().await?;
        match &self.backing {
            Backing::Embedded(cluster) => drop(cluster.rotate()?),
            Backing::KubeApiserver(server) => {
                let signing = &mut server.lock().await.signing;
                let algorithm = signing.keys.last().expect("a key").algorithm();
                signing.keys.push(SigningKey::generate(algorithm)?);
            }
            Backing::Existing => unreachable!("{EXTERNAL}"),
        }
        self.come_up().await
    }

    /// Restarts with only the current signing key.
    pub(crate) async fn restart_without_old_keys(&self) -> Result<(), Failure> {
        self.go_down().await?;
        match &self.backing {
            Backing::Embedded(cluster) => cluster.remove_old_keys(),
            Backing::KubeApiserver(server) => {
                let keys = &mut server.lock().await.signing.keys;
                keys.drain(..keys.len() - 1);
            }
            Backing::Existing => unreachable!("{EXTERNAL}"),
        }
        self.come_up().await
    }
}

const EXTERNAL: &str = "this scenario needs a cluster that the suite started";

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;

    let encoded = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{encoded}\n-----END CERTIFICATE-----\n")
}
