//! A real kube-apiserver with its own etcd, on free loopback ports in a temporary folder.

mod files;
mod flags;
pub(crate) mod process;

use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use kube::config::AuthInfo;
use serde_json::json;
use tokio::time::{sleep, timeout};

pub(crate) use self::flags::Signing;
use self::{files::Files, process::Process};
use crate::version::Version;

/// Generous, because a slow machine starts two servers per core.
const STARTS_WITHIN: Duration = Duration::from_secs(180);
/// Attempts with another port.
const ATTEMPTS: u32 = 3;

pub(crate) struct KubeApiserver {
    assets: PathBuf,
    pub(crate) version: Version,
    pub(crate) signing: Signing,
    files: Files,
    etcd_port: u16,
    port: u16,
    admin_token: String,
    // In this order, so that the server is dropped before etcd.
    server: Option<Process>,
    etcd: Option<Process>,
}

impl KubeApiserver {
    /// Starts both from `assets` and returns when the server is ready.
    pub(crate) async fn start(
        assets: &Path,
        signing: Signing,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let program = assets.join("kube-apiserver");
        let version = Command::new(&program).arg("--version").output();
        let version =
            version.map_err(|error| format!("cannot run {}: {error}", program.display()))?;
        let version = Version::parse(&String::from_utf8_lossy(&version.stdout))?;
        let mut attempt = 1;
        loop {
            match Self::try_start(assets, version, signing.clone()).await {
                Err(error) if attempt == ATTEMPTS => return Err(error),
                Err(_) => attempt += 1,
                Ok(started) => return Ok(started),
            }
        }
    }

    async fn try_start(
        assets: &Path,
        version: Version,
        signing: Signing,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let admin_token = format!("admin-{:032x}", fastrand::u128(..));
        let files = Files::create(&admin_token)?;
        let etcd_port = flags::free_port()?;
        let mut started = Self {
            assets: assets.to_owned(),
            version,
            signing,
            files,
            etcd_port,
            port: flags::free_port()?,
            admin_token,
            server: None,
            etcd: None,
        };
        started.end_etcd_outage()?;
        started.up().await?;
        Ok(started)
    }

    /// Kills etcd and leaves the server running.
    pub(crate) fn start_etcd_outage(&mut self) {
        self.etcd = None;
    }

    /// Starts etcd with its old data.
    pub(crate) fn end_etcd_outage(&mut self) -> io::Result<()> {
        let flags = flags::etcd(&self.files.path("etcd"), self.etcd_port);
        self.etcd =
            Some(Process::start(&self.assets.join("etcd"), &flags, self.files.path("etcd.log"))?);
        Ok(())
    }

    /// Makes etcd forget all revisions but the latest.
    pub(crate) async fn compact_etcd(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let call = async |method: &str, document: serde_json::Value| {
            let url = format!("http://127.0.0.1:{}/v3/kv/{method}", self.etcd_port);
            let answer = client.post(url).body(document.to_string()).send().await?;
            answer.error_for_status()?.text().await
        };
        let range = call("range", json!({"key": "AA==", "count_only": true})).await?;
        let range: serde_json::Value = serde_json::from_str(&range)?;
        let revision = &range["header"]["revision"];
        call("compaction", json!({"revision": revision, "physical": true})).await?;
        Ok(())
    }

    /// Kills the server. etcd keeps running.
    pub(crate) fn down(&mut self) {
        self.server = None;
    }

    /// Shuts the server down gracefully. etcd keeps running.
    pub(crate) async fn shut_down(&mut self) -> Result<(), Box<dyn Error + Send + Sync>> {
        if let Some(server) = self.server.take() {
            tokio::task::spawn_blocking(|| server.shut_down()).await??;
        }
        Ok(())
    }

    /// Starts the server again on the same port with the current `signing`, and waits until it is
    /// ready.
    pub(crate) async fn up(&mut self) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.server = None;
        let flags = flags::kube_apiserver(
            self.version,
            &self.files,
            &self.signing,
            self.etcd_port,
            self.port,
        )?;
        let log = self.files.path("kube-apiserver.log");
        let mut server = Process::start(&self.assets.join("kube-apiserver"), &flags, log)?;
        let client = kube::Client::try_from(self.config(&self.admin_token))?;
        let ready = async {
            while server.is_running() && self.etcd.as_mut().is_some_and(Process::is_running) {
                let request =
                    http::Request::get("/readyz").body(Vec::new()).map_err(kube::Error::HttpError);
                // Another server may have taken the port. It does not know this admin token.
                if client.request_text(request?).await.is_ok_and(|answer| answer == "ok") {
                    return Ok::<_, kube::Error>(true);
                }
                sleep(Duration::from_millis(100)).await;
            }
            Ok(false)
        };
        match timeout(STARTS_WITHIN, ready).await {
            Ok(Ok(true)) => {
                self.server = Some(server);
                Ok(())
            }
            Ok(Err(error)) => Err(error.into()),
            Ok(Ok(false)) => {
                let etcd = self.etcd.as_ref().map(Process::last_words).unwrap_or_default();
                let server = server.last_words();
                Err(format!("kube-apiserver or etcd ended at its start:\n{etcd}\n\n{server}")
                    .into())
            }
            Err(_) => {
                Err(format!("not ready within {STARTS_WITHIN:?}:\n{}", server.last_words()).into())
            }
        }
    }

    pub(crate) fn admin_token(&self) -> &str {
        &self.admin_token
    }

    pub(crate) fn ca_pem(&self) -> &str {
        &self.files.ca_pem
    }

    /// Returns the configuration of a client that sends `token`.
    pub(crate) fn config(&self, token: &str) -> kube::Config {
        let url = http::Uri::builder()
            .scheme("https")
            .authority(format!("127.0.0.1:{}", self.port))
            .path_and_query("/");
        let mut config = kube::Config::new(url.build().expect("a URL of a port"));
        config.root_cert = Some(vec![self.files.ca_der.clone()]);
        config.auth_info = AuthInfo { token: Some(token.to_owned().into()), ..AuthInfo::default() };
        config.default_retry = false;
        config.proxy_url = None;
        config
    }
}
