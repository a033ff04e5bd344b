//! Programs that a test runs on loopback with a folder of their own, and services beside them.

use std::{
    env, fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use axum::Router;

/// How long anything may take. The programs poll once a second.
const PATIENCE: Duration = Duration::from_secs(30);

/// A program and its folder; both end with it.
pub struct Process {
    child: Child,
    folder: PathBuf,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Returns where `program` is installed. `/usr/sbin` is not in every user's `PATH`.
fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

pub fn is_installed(program: &str) -> bool {
    find(program).is_some()
}

/// Returns a new folder.
pub fn folder() -> PathBuf {
    let folder = env::temp_dir().join(format!("real-clients-{:016x}", fastrand::u64(..)));
    fs::create_dir(&folder).unwrap();
    folder
}

/// Starts `program` with `folder` as its own.
pub fn start(program: &str, arguments: &[&str], folder: &Path) -> Process {
    let log = fs::File::create(folder.join("log")).unwrap();
    let child = Command::new(find(program).expect("the program is not installed"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    Process { child, folder: folder.into() }
}

/// Returns an address whose port is free.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Serves `router` on a port of its own.
pub async fn serve(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
    address
}

/// Polls until `condition` returns a value. The programs give no signal to wait for.
pub async fn eventually<T>(what: &str, condition: impl AsyncFn() -> Option<T>) -> T {
    let polling = async {
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let value = tokio::time::timeout(PATIENCE, polling).await;
    value.unwrap_or_else(|_| panic!("timed out: {what}"))
}
