//! One token, for as long as it lasts.

use super::{Token, TokenError, TokenErrorKind, TokenSource};
use crate::clock::Clock;

/// Always the same token: for tests, and for tools that were given one.
///
/// A service in a cluster wants [`ProjectedToken`](super::ProjectedToken) instead, because tokens
/// there end within hours.
///
/// ```
/// use tower_kube_auth::client::{StaticToken, Token, TokenSource};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let source = StaticToken::new(Token::new("header.payload.signature")?);
/// assert_eq!(source.token().await?.expose_secret(), "header.payload.signature");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct StaticToken {
    token: Token,
    clock: Clock,
}

impl StaticToken {
    /// Gives `token`, and once that has expired, an error.
    #[must_use]
    pub fn new(token: Token) -> Self {
        Self { token, clock: Clock::system() }
    }

    /// Sets the clock that the expiry is compared with. Defaults to the system's.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }
}

impl TokenSource for StaticToken {
    /// # Errors
    ///
    /// [`TokenErrorKind::Expired`] once the token has expired; there is no other.
    async fn token(&self) -> Result<Token, TokenError> {
        if self.token.is_valid_at(self.clock.wall()) {
            return Ok(self.token.clone());
        }
        let message =
            "the static token has expired; replace it, or use a source that refreshes its token";
        Err(TokenError::new(TokenErrorKind::Expired, message))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::manual::ManualClock;

    #[tokio::test]
    async fn a_static_token_is_not_handed_out_past_its_expiry() {
        let clock = ManualClock::new();
        let token = Token::new("a.b.c")
            .unwrap()
            .with_expiry(clock.clock().wall() + Duration::from_secs(60));
        let source = StaticToken::new(token.clone()).clock(clock.clock());
        clock.advance(Duration::from_secs(59));
        assert_eq!(source.token().await.unwrap(), token);
        clock.advance(Duration::from_secs(1));
        assert_eq!(source.token().await.unwrap_err().kind(), TokenErrorKind::Expired);
    }
}
