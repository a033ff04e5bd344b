//! The source of keys in a file, which may be replaced at any time.

use std::{
    io,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::{
    error::{VerifyError, VerifyErrorKind},
    mounted_file,
    verifier::jwks::{
        algorithm::Algorithm, build_error::JwksBuildError, key_set::KeySet,
        key_snapshot::LoadedKeys,
    },
};

/// Upper bound for the file, in bytes. Real ones have a few kilobytes.
const LIMIT: usize = 1024 * 1024;

#[derive(Debug)]
pub(in crate::verifier::jwks) struct FileSource {
    path: PathBuf,
}

impl FileSource {
    pub(in crate::verifier::jwks) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the keys on the current thread.
    pub(in crate::verifier::jwks) fn read(
        &self,
        algorithms: &[Algorithm],
    ) -> Result<KeySet, JwksBuildError> {
        self.parse(mounted_file::read(&self.path, LIMIT), algorithms)
    }

    /// Reads the keys on a thread that may block.
    pub(super) async fn fetch(&self, algorithms: &[Algorithm]) -> Result<LoadedKeys, VerifyError> {
        let path = self.path.clone();
        let reading = tokio::task::spawn_blocking(move || mounted_file::read(&path, LIMIT));
        let text = reading.await.map_err(|_| {
            VerifyError::new(VerifyErrorKind::Aborted, "reading was ended with its runtime")
        })?;
        let keys = self.parse(text, algorithms).map_err(|error| {
            let kind = match error {
                JwksBuildError::File { .. } => VerifyErrorKind::Unavailable,
                _ => VerifyErrorKind::InvalidResponse,
            };
            VerifyError::new(kind, error.to_string())
        })?;
        Ok(LoadedKeys { keys, issuer: None })
    }

    fn parse(
        &self,
        text: io::Result<Zeroizing<String>>,
        algorithms: &[Algorithm],
    ) -> Result<KeySet, JwksBuildError> {
        let text = text.map_err(|error| JwksBuildError::File {
            path: self.path.clone(),
            why: error.to_string(),
        })?;
        read_given(&text, algorithms)
    }
}

/// Reads a JWK Set that the operator gives. Unlike a published one, it must have a usable key.
pub(in crate::verifier::jwks) fn read_given(
    json: &str,
    algorithms: &[Algorithm],
) -> Result<KeySet, JwksBuildError> {
    let keys = KeySet::from_json(json.as_bytes(), algorithms)
        .map_err(|invalid| JwksBuildError::Keys(invalid.to_string()))?;
    if keys.len() == 0 {
        return Err(JwksBuildError::Keys("the JWK Set has no key".into()));
    }
    Ok(keys)
}
