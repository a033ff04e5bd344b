//! The command lines of etcd and kube-apiserver.

use std::{io, net::TcpListener, path::Path};

use tower_kube_auth::testing::SigningKey;

use super::files::Files;
use crate::version::Version;

/// What an API server signs and accepts tokens by. A restart may change it.
#[derive(Clone, Debug)]
pub(crate) struct Signing {
    /// All of them verify tokens; the last one signs them.
    pub(crate) keys: Vec<SigningKey>,
    /// All of them are accepted, where the server can; the first one is written into tokens.
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
        // Pods are wanted as objects, before any controller has made them a token.
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
    // Before 1.22 the flag is a single string, of which the last one given would count.
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

/// A port that was free a moment ago. Somebody may take it before the server does; then the server does not start, and
/// is started on another one.
pub(super) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
