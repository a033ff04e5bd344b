//! Tokens in files that kubelet keeps fresh.

mod read;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    Token, TokenError, TokenErrorKind, TokenSource,
    refresher::{Fetch, Fetched, Refresher, reread_after},
};
use crate::{backoff::Backoff, clock::Clock, inspect::UnverifiedToken};

pub(super) use read::{READ_LIMIT, Read, from_disk, in_background};

/// Where kubelet mounts a Pod's own token, `ca.crt` and `namespace`, unless
/// `automountServiceAccountToken` is false.
pub(super) const STANDARD_MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The token in a [projected volume], which kubelet replaces in time.
///
/// The first call of [`token`](TokenSource::token) reads the file; then a background task reads it
/// every minute (as client-go's file source does), or after half of the token's remaining lifetime
/// if that is sooner. Requests are served from memory. White space around the token is trimmed; a
/// file without a JWT is an error.
///
/// If the file cannot be read, the last good token is returned until it expires; the file is read
/// again after 1 s, then at growing intervals of up to 10 s. After a 401
/// ([`invalidate`](TokenSource::invalidate)) the file is read again
/// at once.
///
/// The background task starts with the first call of [`token`](TokenSource::token), which must be
/// inside a Tokio runtime, and ends when the last clone of the source is dropped.
///
/// ```
/// use tower_kube_auth::{client::{ProjectedToken, TokenSource}, testing::Cluster};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let volume = std::env::temp_dir().join(format!("projected-{}", std::process::id()));
/// let cluster = Cluster::start().await?;
/// cluster.create_service_account("shop", "checkout");
/// let token = cluster.token("shop", "checkout").audience("orders").issue()?;
/// cluster.write_projected_volume(&volume, &token)?;
///
/// let source = ProjectedToken::new(volume.join("token"));
/// assert_eq!(source.token().await?.expose_secret(), token);
/// # std::fs::remove_dir_all(volume)?;
/// # Ok(()) }
/// ```
///
/// [projected volume]: https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/#launch-a-pod-using-service-account-token-projection
#[derive(Clone)]
pub struct ProjectedToken(Refresher<TokenFile>);

impl ProjectedToken {
    /// Returns the source of the token in the file `path`: the mount of the volume, joined with the
    /// `path` of its `serviceAccountToken` source.
    ///
    /// Reads nothing before the first call of [`token`](TokenSource::token).
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::with(path.into(), Clock::system(), Arc::new(from_disk))
    }

    /// Sets the clock of intervals and expiry. Defaults to the system's.
    ///
    /// Call it before the first call of [`token`](TokenSource::token): it drops what was read.
    #[must_use]
    pub fn clock(self, clock: Clock) -> Self {
        let TokenFile { path, read, .. } = self.0.fetcher();
        Self::with(path.clone(), clock, Arc::clone(read))
    }

    fn with(path: PathBuf, clock: Clock, read: Arc<Read>) -> Self {
        Self(Refresher::new(TokenFile { path, read, clock: clock.clone() }, clock))
    }
}

impl Default for ProjectedToken {
    /// The Pod's own token at the standard mount,
    /// `/var/run/secrets/kubernetes.io/serviceaccount/token`.
    ///
    /// That token is for the API server: a service that gets it can act as this one there. To
    /// call other services, mount one with an audience
    /// (`examples/kubernetes/client-projected-volume.yaml`) and name its path.
    fn default() -> Self {
        Self::new(Path::new(STANDARD_MOUNT).join("token"))
    }
}

impl TokenSource for ProjectedToken {
    /// # Errors
    ///
    /// If there is no valid token: [`Unreadable`](TokenErrorKind::Unreadable),
    /// [`Malformed`](TokenErrorKind::Malformed) or [`Expired`](TokenErrorKind::Expired), with the
    /// file's name; [`Aborted`](TokenErrorKind::Aborted) outside of a Tokio runtime.
    async fn token(&self) -> Result<Token, TokenError> {
        self.0.token().await
    }

    fn invalidate(&self, token: &Token) {
        self.0.invalidate(token);
    }
}

impl fmt::Debug for ProjectedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ProjectedToken").field(&self.0).finish()
    }
}

struct TokenFile {
    path: PathBuf,
    read: Arc<Read>,
    clock: Clock,
}

impl Fetch for TokenFile {
    const BACKOFF: Backoff = Backoff {
        first: Duration::from_secs(1),
        growth: 2.0,
        longest: Duration::from_secs(10),
        jitter: 0.75..1.0,
    };

    fn what(&self) -> String {
        self.path.display().to_string()
    }

    fn time_limit(&self) -> Duration {
        READ_LIMIT
    }

    async fn fetch(&self) -> Result<Fetched, TokenError> {
        let text = in_background(&self.read, &self.path).await?;
        let malformed = |source: Box<dyn std::error::Error + Send + Sync>| {
            let message = format!(
                "{}: this is not a ServiceAccount token: {source}; is it the right file?",
                self.what()
            );
            TokenError::new(TokenErrorKind::Malformed, message).with_source(source)
        };
        let claims = UnverifiedToken::decode(&text).map_err(|error| malformed(error.into()))?;
        let mut token = Token::new(text.as_str()).map_err(|error| malformed(error.into()))?;
        if let Some(expiry) = claims.expires_at() {
            token = token.with_expiry(expiry);
        }
        let now = self.clock.wall();
        let lifetime =
            token.expires_at().map(|expiry| expiry.duration_since(now).unwrap_or_default());
        Ok(Fetched { token, next: reread_after(lifetime) })
    }
}
