//! Certificate authority of the cluster, and the server's certificate.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};

use super::error::ClusterError;

/// Names under which Pods and tests reach the API server.
const NAMES: [&str; 6] = [
    "127.0.0.1",
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

/// A certificate authority with one server certificate.
pub(super) struct Authority {
    pub(super) pem: String,
    pub(super) der: Vec<u8>,
    pub(super) server: Arc<ServerConfig>,
}

impl Authority {
    pub(super) fn generate() -> Result<Self, ClusterError> {
        let (pem, der, certificate, key) = certificates()
            .map_err(|error| ClusterError::new("cannot make the server's certificate", error))?;
        // The user may not have chosen rustls' default provider, so name one explicitly.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|config| {
                config.with_no_client_auth().with_single_cert(vec![certificate], key)
            });
        let mut server = config.map_err(|error| ClusterError::new("cannot set up TLS", error))?;
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { pem, der, server: Arc::new(server) })
    }
}

type Certificates = (String, Vec<u8>, CertificateDer<'static>, PrivateKeyDer<'static>);

fn certificates() -> Result<Certificates, rcgen::Error> {
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    ca.distinguished_name.push(DnType::CommonName, "embedded-cluster-ca");
    let ca_key = KeyPair::generate()?;
    let ca_certificate = ca.self_signed(&ca_key)?;

    let mut server = CertificateParams::new(NAMES.map(str::to_owned))?;
    server.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let server_key = KeyPair::generate()?;
    let certificate = server.signed_by(&server_key, &Issuer::new(ca, ca_key))?;
    let key = PrivatePkcs8KeyDer::from(server_key.serialize_der());
    Ok((ca_certificate.pem(), ca_certificate.der().to_vec(), certificate.der().clone(), key.into()))
}
