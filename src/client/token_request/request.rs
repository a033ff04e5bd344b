//! The call, and what its answer says.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::StatusCode;
use kube::Client;
use tokio::sync::OnceCell;

use super::subject::{Resolved, Subject};
use crate::{
    api_server::{ApiServer, CallError, Purpose},
    api_types::{TokenRequest, TokenRequestResponse, TokenRequestSpec},
    client::{
        Token, TokenError, TokenErrorKind,
        refresher::{Fetch, Fetched, backoff},
    },
    clock::Clock,
    error::VerifyErrorKind,
};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
const PURPOSE: Purpose = Purpose {
    call: "TokenRequest",
    when_forbidden: "allow the verb `create` on the resource `serviceaccounts/token` for this service's own \
                     ServiceAccount: examples/kubernetes/client-token-request.yaml of tower-kube-auth has the Role and the RoleBinding",
};

pub(super) fn api_server(client: Client) -> ApiServer {
    ApiServer::new(client, DEFAULT_TIMEOUT, PURPOSE)
}

pub(super) struct Request {
    api_server: ApiServer,
    audiences: Vec<Arc<str>>,
    seconds: u64,
    subject: Subject,
    /// Who we are does not change.
    resolved: OnceCell<Resolved>,
    clock: Clock,
}

impl Request {
    pub(super) fn new(
        api_server: ApiServer,
        audiences: Vec<Arc<str>>,
        seconds: u64,
        subject: Subject,
        clock: Clock,
    ) -> Self {
        Self { api_server, audiences, seconds, subject, resolved: OnceCell::new(), clock }
    }

    fn document(&self, resolved: &Resolved) -> Result<Vec<u8>, TokenError> {
        let request = TokenRequest {
            api_version: "authentication.k8s.io/v1",
            kind: "TokenRequest",
            spec: TokenRequestSpec {
                audiences: &self.audiences,
                expiration_seconds: self.seconds,
                bound_object_ref: resolved.bound.as_ref().map(super::BoundObjectRef::to_wire),
            },
        };
        serde_json::to_vec(&request).map_err(|error| {
            TokenError::with_source(TokenErrorKind::Aborted, "TokenRequest: not serialised", error)
        })
    }

    fn read(&self, answer: &[u8]) -> Result<Fetched, TokenError> {
        // The error of serde_json names a line and a column, never the content.
        let answer: TokenRequestResponse = serde_json::from_slice(answer).map_err(|error| {
            invalid("the API server's answer is not a TokenRequest with a status", error)
        })?;
        let token = Token::new(answer.status.token)
            .map_err(|error| invalid("the API server's answer has no usable token in it", error))?;
        let expiry =
            answer.status.expiration_timestamp.parse::<jiff::Timestamp>().map(SystemTime::from);
        let expiry = expiry.map_err(|error| {
            invalid("status.expirationTimestamp is not a time (RFC 3339)", error)
        })?;

        let now = self.clock.wall();
        let left = expiry.duration_since(now).unwrap_or_default();
        // Where our clock is behind the server's, the timestamp alone would make the life seem longer than it is.
        let life = answer
            .spec
            .expiration_seconds
            .map_or(left, |granted| left.min(Duration::from_secs(granted)));
        let expiry = now.checked_add(life).map_or(expiry, |end| end.min(expiry));
        Ok(Fetched {
            token: token.with_expiry(expiry),
            next: backoff::refresh_after(life, fastrand::f64()),
        })
    }
}

impl Fetch for Request {
    const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

    fn what(&self) -> String {
        match self.resolved.get() {
            Some(resolved) => format!("TokenRequest for {}", resolved.account.as_str()),
            None => "TokenRequest".to_owned(),
        }
    }

    async fn fetch(&self) -> Result<Fetched, TokenError> {
        let resolved = self.resolved.get_or_try_init(|| self.subject.resolve()).await?;
        let (namespace, name) = (resolved.account.namespace(), resolved.account.name());
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
        let answer = self.api_server.post(&path, self.document(resolved)?.into()).await?;
        self.read(&answer)
    }
}

fn invalid(
    what: &'static str,
    error: impl std::error::Error + Send + Sync + 'static,
) -> TokenError {
    TokenError::with_source(
        TokenErrorKind::InvalidResponse,
        format!("TokenRequest: {what}: {error}"),
        error,
    )
}

impl From<CallError> for TokenError {
    fn from(error: CallError) -> Self {
        let refused = match error.status() {
            Some(StatusCode::BAD_REQUEST) => "is something wrong with the bound object?",
            Some(StatusCode::NOT_FOUND) => {
                "is there such a ServiceAccount, and the object that the token is bound to?"
            }
            Some(StatusCode::CONFLICT) => {
                "was the object that the token is bound to deleted and made anew?"
            }
            Some(StatusCode::UNPROCESSABLE_ENTITY) => "does this API server allow such a lifetime?",
            _ => {
                let kind = match error.kind() {
                    VerifyErrorKind::Unauthenticated => TokenErrorKind::Unauthenticated,
                    VerifyErrorKind::Forbidden => TokenErrorKind::Forbidden,
                    VerifyErrorKind::RateLimited => TokenErrorKind::RateLimited,
                    VerifyErrorKind::Timeout => TokenErrorKind::Timeout,
                    VerifyErrorKind::InvalidResponse => TokenErrorKind::InvalidResponse,
                    _ => TokenErrorKind::Unavailable,
                };
                return Self::new(kind, error.to_string());
            }
        };
        let message = format!("{error}; {refused} [{}]", error.status_message());
        Self::new(TokenErrorKind::Refused, message)
    }
}
