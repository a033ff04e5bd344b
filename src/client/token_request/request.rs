//! One TokenRequest call, and the reading of its response.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::StatusCode;
use tokio::sync::OnceCell;

use super::subject::{BoundObjectRef, Resolved, Subject};
use crate::{
    api_server::{ApiClient, ApiServer, ApiServerError, ApiServerErrorKind, Purpose},
    api_types::{TokenRequest, TokenRequestResponse, TokenRequestSpec},
    backoff::Backoff,
    client::{
        Token, TokenError, TokenErrorKind,
        projected::READ_LIMIT,
        refresher::{Fetch, Fetched, refresh_after},
    },
    clock::Clock,
    json::ReadError,
};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
const PURPOSE: Purpose = Purpose {
    call: "TokenRequest",
    when_forbidden: "allow the verb `create` on the resource `serviceaccounts/token` for this \
                     service's own ServiceAccount: \
                     examples/kubernetes/client-token-request.yaml of tower-kube-auth has the Role \
                     and the RoleBinding",
    stage: None,
};

pub(super) fn api_client(api_server: ApiServer) -> ApiClient {
    ApiClient::new(api_server, DEFAULT_TIMEOUT, PURPOSE)
}

pub(super) struct Request {
    api_client: ApiClient,
    audiences: Vec<Arc<str>>,
    seconds: u64,
    subject: Subject,
    /// Resolved once: this Pod's identity does not change.
    resolved: OnceCell<Resolved>,
    clock: Clock,
}

impl Request {
    pub(super) fn new(
        api_client: ApiClient,
        audiences: Vec<Arc<str>>,
        seconds: u64,
        subject: Subject,
        clock: Clock,
    ) -> Self {
        Self { api_client, audiences, seconds, subject, resolved: OnceCell::new(), clock }
    }

    fn document(&self, resolved: &Resolved) -> Result<Vec<u8>, TokenError> {
        let request = TokenRequest {
            api_version: "authentication.k8s.io/v1",
            kind: "TokenRequest",
            spec: TokenRequestSpec {
                audiences: &self.audiences,
                expiration_seconds: self.seconds,
                bound_object_ref: resolved.bound.as_ref().map(BoundObjectRef::to_object_ref),
            },
        };
        serde_json::to_vec(&request).map_err(|error| {
            TokenError::new(TokenErrorKind::Aborted, "TokenRequest: not serialised")
                .with_source(error)
        })
    }

    fn read(&self, answer: &[u8]) -> Result<Fetched, TokenError> {
        let answer: TokenRequestResponse =
            serde_json::from_slice(answer).map_err(ReadError::from).map_err(|error| {
                invalid("the API server's answer is not a TokenRequest with a status", error)
            })?;
        let token = Token::new(answer.status.token)
            .map_err(|error| invalid("the API server's answer has no usable token in it", error))?;
        let expiry =
            answer.status.expiration_timestamp.parse::<jiff::Timestamp>().map(SystemTime::from);
        // jiff's error quotes the value.
        let expiry = expiry.map_err(|_| {
            let message = "TokenRequest: status.expirationTimestamp is not a time (RFC 3339)";
            TokenError::new(TokenErrorKind::InvalidResponse, message)
        })?;

        let now = self.clock.wall();
        let left = expiry.duration_since(now).unwrap_or_default();
        // If the local clock is behind the server's, the timestamp alone overstates the lifetime.
        let lifetime = answer
            .spec
            .expiration_seconds
            .map_or(left, |granted| left.min(Duration::from_secs(granted)));
        let expiry = now.checked_add(lifetime).map_or(expiry, |end| end.min(expiry));
        Ok(Fetched { token: token.with_expiry(expiry), next: refresh_after(lifetime) })
    }
}

impl Fetch for Request {
    const BACKOFF: Backoff = Backoff {
        first: Duration::from_secs(1),
        growth: 2.0,
        longest: Duration::from_secs(30),
        jitter: 0.75..1.0,
    };

    fn what(&self) -> String {
        match self.resolved.get() {
            Some(resolved) => format!("TokenRequest for {}", resolved.account.as_str()),
            None => "TokenRequest".to_owned(),
        }
    }

    /// The call's, and that of reading this Pod's own token before it.
    fn time_limit(&self) -> Duration {
        self.api_client.timeout.saturating_add(READ_LIMIT)
    }

    async fn fetch(&self) -> Result<Fetched, TokenError> {
        let resolved = self.resolved.get_or_try_init(|| self.subject.resolve()).await?;
        let (namespace, name) = (resolved.account.namespace(), resolved.account.name());
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
        let answer = self.api_client.post(&path, self.document(resolved)?.into()).await?;
        self.read(&answer)
    }
}

fn invalid(
    what: &'static str,
    error: impl std::error::Error + Send + Sync + 'static,
) -> TokenError {
    let message = format!("TokenRequest: {what}: {error}");
    TokenError::new(TokenErrorKind::InvalidResponse, message).with_source(error)
}

impl From<ApiServerError> for TokenError {
    fn from(error: ApiServerError) -> Self {
        let kind = match error.kind() {
            ApiServerErrorKind::Unavailable => TokenErrorKind::Unavailable,
            ApiServerErrorKind::Timeout => TokenErrorKind::Timeout,
            ApiServerErrorKind::RateLimited => TokenErrorKind::RateLimited,
            ApiServerErrorKind::Unauthenticated => TokenErrorKind::Unauthenticated,
            ApiServerErrorKind::Forbidden => TokenErrorKind::Forbidden,
            ApiServerErrorKind::InvalidRequest => TokenErrorKind::InvalidRequest,
            ApiServerErrorKind::InvalidResponse => TokenErrorKind::InvalidResponse,
        };
        let hint = match error.status() {
            Some(StatusCode::BAD_REQUEST) => Some("is the bound object wrong?"),
            Some(StatusCode::NOT_FOUND) => {
                Some("do the ServiceAccount and the object that the token is bound to exist?")
            }
            Some(StatusCode::CONFLICT) => {
                Some("was the object that the token is bound to deleted and created again?")
            }
            Some(StatusCode::UNPROCESSABLE_ENTITY) => {
                Some("does this API server allow such a lifetime?")
            }
            _ => None,
        };
        let message = match hint {
            Some(hint) => format!("{error}; {hint} [{}]", error.status_message()),
            None => error.to_string(),
        };
        match error.retry_after() {
            Some(pause) => Self::new(kind, message).with_retry_after(pause),
            None => Self::new(kind, message),
        }
    }
}
