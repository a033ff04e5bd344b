//! Reading a small text file without blocking the runtime.

use std::{
    io::{self, ErrorKind},
    path::Path,
    sync::Arc,
    time::Duration,
};

use zeroize::Zeroizing;

use crate::{
    client::{TokenError, TokenErrorKind},
    mounted_file,
    token::BearerToken,
};

/// How a file is read; tests count.
pub(in crate::client) type Read = dyn Fn(&Path) -> io::Result<Zeroizing<String>> + Send + Sync;

/// How long a caller waits for a file; a kubelet's volume is in memory.
pub(in crate::client) const READ_LIMIT: Duration = Duration::from_secs(5);

/// Room for the longest token and a generous end of line.
const LIMIT: usize = BearerToken::DEFAULT_MAX_LENGTH + 1024;

pub(in crate::client) fn from_disk(path: &Path) -> io::Result<Zeroizing<String>> {
    mounted_file::read(path, LIMIT)
}

/// The trimmed content of the file, read on a thread that may block.
pub(in crate::client) async fn in_background(
    read: &Arc<Read>,
    path: &Path,
) -> Result<Zeroizing<String>, TokenError> {
    let (read, file) = (Arc::clone(read), path.to_owned());
    let outcome = tokio::task::spawn_blocking(move || read(&file)).await.map_err(|error| {
        let message = format!("{}: reading was ended with its runtime", path.display());
        TokenError::new(TokenErrorKind::Aborted, message).with_source(error)
    })?;
    let text = outcome.map_err(|error| unreadable(path, error))?;
    let trimmed = text.trim();
    if trimmed.is_empty() {
        let message = format!(
            "{}: the file is empty; is the volume's serviceAccountToken mounted here?",
            path.display()
        );
        return Err(TokenError::new(TokenErrorKind::Malformed, message));
    }
    Ok(Zeroizing::new(trimmed.to_owned()))
}

fn unreadable(path: &Path, error: io::Error) -> TokenError {
    let (kind, hint) = match error.kind() {
        ErrorKind::NotFound => (
            TokenErrorKind::Unreadable,
            "mount a projected volume with a serviceAccountToken (see \
             examples/kubernetes/client-projected-volume.yaml), and look for \
             automountServiceAccountToken: false",
        ),
        ErrorKind::PermissionDenied => (
            TokenErrorKind::Unreadable,
            "let the container's user read it (securityContext.fsGroup)",
        ),
        ErrorKind::InvalidData => {
            (TokenErrorKind::Malformed, "this is not a token; is it the right file?")
        }
        _ => (TokenErrorKind::Unreadable, "is the volume mounted?"),
    };
    let message = format!("{}: cannot be read: {error}; {hint}", path.display());
    TokenError::new(kind, message).with_source(error)
}
