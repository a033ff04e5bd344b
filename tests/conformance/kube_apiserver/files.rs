//! The files that an API server reads at its start.

use std::{error::Error, fs, io, path::PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tower_kube_auth::testing::SigningKey;

use super::process::Folder;

/// The API server's folder: certificates, keys, static users, logs.
#[derive(Debug)]
pub(super) struct Files {
    folder: Folder,
    pub(super) ca_pem: String,
    pub(super) ca_der: Vec<u8>,
}

impl Files {
    /// Creates the folder with a certificate for 127.0.0.1, and with `admin_token` as the user
    /// `admin` of `system:masters`.
    pub(super) fn create(admin_token: &str) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let folder = Folder::create("conformance")?;
        let mut ca = CertificateParams::new(Vec::new())?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let ca_key = KeyPair::generate()?;
        let ca_certificate = ca.self_signed(&ca_key)?;

        let mut server = CertificateParams::new(
            ["127.0.0.1", "localhost", "kubernetes.default.svc"].map(str::to_owned),
        )?;
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let server_key = KeyPair::generate()?;
        let certificate = server.signed_by(&server_key, &Issuer::new(ca, ca_key))?;

        let files =
            Self { folder, ca_pem: ca_certificate.pem(), ca_der: ca_certificate.der().to_vec() };
        files.write("ca.crt", &files.ca_pem)?;
        files.write("tls.crt", &certificate.pem())?;
        files.write("tls.key", &server_key.serialize_pem())?;
        files.write("tokens.csv", &format!("{admin_token},admin,admin-uid,system:masters\n"))?;
        Ok(files)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the private half of `key` and returns the name of its file.
    pub(super) fn write_private(&self, key: &SigningKey) -> io::Result<PathBuf> {
        let pem = key.private_key_pem().map_err(io::Error::other)?;
        self.write(&format!("{}.key", key.kid()), &pem)
    }

    /// Writes the public half of `key` and returns the name of its file.
    pub(super) fn write_public(&self, key: &SigningKey) -> io::Result<PathBuf> {
        self.write(&format!("{}.pub", key.kid()), &key.public_key_pem())
    }

    fn write(&self, name: &str, content: &str) -> io::Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, content)?;
        Ok(path)
    }
}
