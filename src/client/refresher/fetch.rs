//! The origin of a refreshed token.

use std::{future::Future, time::Duration};

use crate::{
    backoff::Backoff,
    client::{Token, TokenError},
};

/// One way to get a token.
pub(in crate::client) trait Fetch: Send + Sync + 'static {
    /// The pauses after failures.
    const BACKOFF: Backoff;

    /// Returns the name of the file or the API call, for messages.
    fn what(&self) -> String;

    fn fetch(&self) -> impl Future<Output = Result<Fetched, TokenError>> + Send;
}

pub(in crate::client) struct Fetched {
    pub(in crate::client) token: Token,
    /// The time until the next fetch.
    pub(in crate::client) next: Duration,
}
