//! The command lines of etcd and kube-apiserver.

use std::{io, net::TcpListener, path::Path};

use tower_kube_auth::testing::SigningKey;

use super::files::Files;
use crate::version::Version;

/// The keys and issuers of an API server. A restart may change them.
#[derive(Clone, Debug)]
pub(crate) struct Signing {
    /// All of them verify tokens. The last one signs.
    pub(crate) keys: Vec<SigningKey>,
    /// All of them are accepted, if the version supports that. The first one is in issued tokens.
    pub(crate) issuers: Vec<String>,
}

/// A server with no fixed port.
pub(super) fn etcd(data: &Path, port: u16) -> Vec<String> {
    let url = format!("http://127.0.0.1:{port}");
    vec![
        format!("--data-dir={}", data.display()),
        format!("--listen-client-urls={url}"),
        format!("--advertise-client-urls={url}"),
        "--listen-peer-urls=http://127.0.0.1:0".to_owned(),
    ]
}

pub(super) fn kube_apiserver(
    version: Version,
    files: &Files,
    signing: &Signing,
    etcd_port: u16,
    port: u16,
) -> io::Result<Vec<String>> {
    let file = |name: &str| files.path(name).display().to_string();
    let mut flags = vec![
        format!("--etcd-servers=http://127.0.0.1:{etcd_port}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        format!("--tls-cert-file={}", file("tls.crt")),
        format!("--tls-private-key-file={}", file("tls.key")),
        format!("--cert-dir={}", file("certificates")),
        format!("--token-auth-file={}", file("tokens.csv")),
        "--authorization-mode=RBAC".to_owned(),
        "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
        // Scenarios create Pods without a controller that provides their tokens.
        "--disable-admission-plugins=ServiceAccount".to_owned(),
    ];
    if version < (1, 24) {
        flags.push("--insecure-port=0".to_owned());
    }
    for key in &signing.keys {
        flags.push(format!("--service-account-key-file={}", files.write_public(key)?.display()));
    }
    if let Some(key) = signing.keys.last() {
        flags.push(format!(
            "--service-account-signing-key-file={}",
            files.write_private(key)?.display()
        ));
    }
    // Before 1.22 the flag is a single string: the last occurrence would win.
    let several = if version.accepts_several_issuers() { signing.issuers.len() } else { 1 };
    flags.extend(
        signing
            .issuers
            .iter()
            .take(several)
            .map(|issuer| format!("--service-account-issuer={issuer}")),
    );
    flags.push(format!(
        "--api-audiences={}",
        signing.issuers.first().map(String::as_str).unwrap_or_default()
    ));
    Ok(flags)
}

/// Returns a port that is currently free. Another process may take it before the server does; then
/// the server is started on another port.
pub(super) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
