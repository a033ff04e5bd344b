//! The source of keys of an external issuer: OpenID Connect Discovery over HTTPS.

use std::time::Duration;

use reqwest::{Certificate, Client, Url, header, redirect};

use super::discovery::{read_discovery, read_keys};
use crate::{
    error::{VerifyError, VerifyErrorKind},
    verifier::jwks::{algorithm::Algorithm, build_error::JwksBuildError, key_snapshot::LoadedKeys},
};

const DISCOVERY_PATH: &str = ".well-known/openid-configuration";
/// Upper bound for a document, in bytes. Real ones have a few kilobytes.
const BODY_LIMIT: usize = 1024 * 1024;

#[derive(Debug)]
pub(in crate::verifier::jwks) struct IssuerSource {
    issuer: String,
    client: Client,
}

impl IssuerSource {
    pub(in crate::verifier::jwks) fn new(
        issuer: String,
        roots: &[Vec<u8>],
        limit: Duration,
    ) -> Result<Self, JwksBuildError> {
        check_https(&issuer)
            .map_err(|why| JwksBuildError::Issuer { issuer: issuer.clone(), why })?;
        // A redirect could replace the issuer's host by another one.
        let mut builder =
            Client::builder().redirect(redirect::Policy::none()).https_only(true).timeout(limit);
        if !roots.is_empty() {
            let certificates: Result<Vec<_>, _> =
                roots.iter().map(|pem| Certificate::from_pem_bundle(pem)).collect();
            let certificates =
                certificates.map_err(|error| JwksBuildError::RootCertificate(error.to_string()))?;
            if certificates.iter().all(Vec::is_empty) {
                return Err(JwksBuildError::RootCertificate(
                    "there is no CERTIFICATE block".into(),
                ));
            }
            builder = builder.tls_certs_only(certificates.into_iter().flatten());
        }
        let client =
            builder.build().map_err(|error| JwksBuildError::RootCertificate(error.to_string()))?;
        Ok(Self { issuer, client })
    }

    pub(super) fn url(&self) -> &str {
        &self.issuer
    }

    pub(super) async fn fetch(&self, algorithms: &[Algorithm]) -> Result<LoadedKeys, VerifyError> {
        // OpenID Connect Discovery §4: the path is appended to the issuer without its trailing
        // slash.
        let url = format!("{}/{DISCOVERY_PATH}", self.issuer.trim_end_matches('/'));
        let document = read_discovery(&self.get(&url).await?)?;
        if *document.issuer != *self.issuer {
            // §4.3: they MUST be identical, or one host could verify the tokens of another issuer.
            let message = format!(
                "the discovery document of {} is for the issuer {}",
                self.issuer, document.issuer
            );
            return Err(VerifyError::new(VerifyErrorKind::InvalidResponse, message));
        }
        check_https(&document.jwks_uri).map_err(|why| {
            let message = format!("the jwks_uri of {} {why}", self.issuer);
            VerifyError::new(VerifyErrorKind::InvalidResponse, message)
        })?;
        let keys = read_keys(&self.get(&document.jwks_uri).await?, algorithms)?;
        Ok(LoadedKeys { keys, issuer: Some(document.issuer) })
    }

    async fn get(&self, url: &str) -> Result<Vec<u8>, VerifyError> {
        // Bypasses HTTP caches: the keys are fetched because new ones are needed.
        let request = self.client.get(url).header(header::CACHE_CONTROL, "no-cache");
        let mut response = request.send().await.map_err(|error| unreachable(url, error))?;
        if !response.status().is_success() {
            let message = format!("{url} answered {}", response.status());
            return Err(VerifyError::new(VerifyErrorKind::Unavailable, message));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(url, error))? {
            if body.len() + chunk.len() > BODY_LIMIT {
                let message = format!("the answer of {url} is longer than {BODY_LIMIT} bytes");
                return Err(VerifyError::new(VerifyErrorKind::InvalidResponse, message));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

fn unreachable(url: &str, error: reqwest::Error) -> VerifyError {
    let kind =
        if error.is_timeout() { VerifyErrorKind::Timeout } else { VerifyErrorKind::Unavailable };
    VerifyError::new(kind, format!("{url} cannot be fetched")).with_source(error)
}

fn check_https(url: &str) -> Result<(), &'static str> {
    let url = Url::parse(url).map_err(|_| "is not a URL")?;
    if url.scheme() != "https" {
        return Err("is not an https URL");
    }
    if url.query().is_some()
        || url.fragment().is_some()
        || !url.username().is_empty()
        || url.password().is_some()
    {
        return Err("has a query, a fragment or a user");
    }
    Ok(())
}
