//! The trait of token sources, and its erased form.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use super::{Token, TokenError};

/// Provides the token for the next request.
///
/// Implement it with a plain `async fn`. It is called once for each request, so it should answer
/// from memory:
///
/// ```
/// use tower_kube_auth::client::{Token, TokenError, TokenErrorKind, TokenSource};
///
/// /// Reads the token from an environment variable.
/// struct FromEnvironment(&'static str);
///
/// impl TokenSource for FromEnvironment {
///     async fn token(&self) -> Result<Token, TokenError> {
///         let token = std::env::var(self.0).map_err(|error| {
///             TokenError::new(TokenErrorKind::Unreadable, "set MY_TOKEN").with_source(error)
///         })?;
///         Token::new(token).map_err(|error| {
///             TokenError::new(TokenErrorKind::Malformed, "bad MY_TOKEN").with_source(error)
///         })
///     }
/// }
/// ```
///
/// The future may be dropped at any `await`.
pub trait TokenSource: Send + Sync + 'static {
    /// Returns a token that is valid now.
    ///
    /// # Errors
    ///
    /// [`TokenError`] if there is none. An expired token is never returned in its place.
    fn token(&self) -> impl Future<Output = Result<Token, TokenError>> + Send;

    /// Reports that a server rejected `token` (401). If it is the current one, the next request
    /// should get another.
    ///
    /// Called on the request path, so it must not block. Defaults to doing nothing.
    fn invalidate(&self, token: &Token) {
        let _ = token;
    }
}

impl<T: TokenSource> TokenSource for Arc<T> {
    async fn token(&self) -> Result<Token, TokenError> {
        T::token(self).await
    }

    fn invalidate(&self, token: &Token) {
        T::invalidate(self, token);
    }
}

/// A source of any type, so that the layer needs no type parameter for it.
#[derive(Clone)]
pub(super) struct SharedSource(Arc<dyn Erased>);

pub(super) type Getting = Pin<Box<dyn Future<Output = Result<Token, TokenError>> + Send>>;

trait Erased: Send + Sync {
    fn token(self: Arc<Self>) -> Getting;
    fn invalidate(&self, token: &Token);
}

impl<T: TokenSource> Erased for T {
    fn token(self: Arc<Self>) -> Getting {
        Box::pin(async move { TokenSource::token(&*self).await })
    }

    fn invalidate(&self, token: &Token) {
        TokenSource::invalidate(self, token);
    }
}

impl SharedSource {
    pub(super) fn new(source: impl TokenSource) -> Self {
        Self(Arc::new(source))
    }

    pub(super) fn token(&self) -> Getting {
        Arc::clone(&self.0).token()
    }

    pub(super) fn invalidate(&self, token: &Token) {
        self.0.invalidate(token);
    }
}

impl fmt::Debug for SharedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedSource")
    }
}
