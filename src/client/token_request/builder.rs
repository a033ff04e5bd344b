//! The options of a [`TokenRequestSource`], checked in `build()`.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use super::{
    request::{Request, api_client},
    source::TokenRequestSource,
    subject::{Binding, BoundObjectRef, Subject},
};
use crate::{
    api_server::{ApiClient, ApiServer},
    audience::{Audiences, InvalidAudiences},
    client::{projected, refresher::Refresher},
    clock::Clock,
    identity::Username,
};

/// The default of Kubernetes.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60 * 60);
/// The API server's limits, in seconds (`pkg/apis/authentication/validation`).
const SHORTEST_LIFETIME: u64 = 10 * 60;
const LONGEST_LIFETIME: u64 = 1 << 32;

/// Options of a [`TokenRequestSource`], which has an example.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct TokenRequestBuilder {
    api_client: ApiClient,
    audiences: Vec<String>,
    for_api_server: bool,
    lifetime: Duration,
    subject: Subject,
    clock: Clock,
}

impl TokenRequestSource {
    /// Requests tokens from `api_server`.
    pub fn builder(api_server: impl Into<ApiServer>) -> TokenRequestBuilder {
        TokenRequestBuilder::new(api_server.into())
    }
}

impl TokenRequestBuilder {
    fn new(api_server: ApiServer) -> Self {
        let subject = Subject {
            namespace: None,
            name: None,
            binding: Binding::None,
            mount: projected::STANDARD_MOUNT.into(),
            read: Arc::new(projected::from_disk),
        };
        Self {
            api_client: api_client(api_server),
            audiences: Vec::new(),
            for_api_server: false,
            lifetime: DEFAULT_LIFETIME,
            subject,
            clock: Clock::system(),
        }
    }

    /// Adds an audience: the name that the called service expects in `aud`. Required.
    ///
    /// A token with several audiences lets each of those services act as this one at the others;
    /// prefer one source per audience.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// Requests a token for the API server itself, by naming no audience.
    ///
    /// Any service that receives such a token has all rights of this ServiceAccount in the cluster.
    /// For calls to the API server only.
    pub fn dangerous_api_server_audience(mut self) -> Self {
        self.for_api_server = true;
        self
    }

    /// Sets the lifetime of each token, in whole seconds (`expirationSeconds`). Defaults to 1 h,
    /// from 10 min to 2³² s.
    ///
    /// The API server may grant less; the source uses the granted lifetime.
    pub fn expires_in(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Sets the ServiceAccount's namespace. Defaults to this Pod's own: that of its token's claims,
    /// or of the `namespace` file beside the token.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.subject.namespace = Some(namespace.into());
        self
    }

    /// Sets the ServiceAccount's name. Defaults to this Pod's own, from its token's claims.
    pub fn service_account(mut self, name: impl Into<String>) -> Self {
        self.subject.name = Some(name.into());
        self
    }

    /// Binds the tokens to an object: they are invalid once it is deleted. By default they are
    /// bound to their ServiceAccount only.
    pub fn bound_to(mut self, object: BoundObjectRef) -> Self {
        self.subject.binding = Binding::Object(object);
        self
    }

    /// Binds the tokens to the Pod that this process runs in, by the name and uid in its token's
    /// claims.
    pub fn bound_to_own_pod(mut self) -> Self {
        self.subject.binding = Binding::OwnPod;
        self
    }

    /// Sets the folder with this Pod's own `token` and `namespace`. Defaults to
    /// `/var/run/secrets/kubernetes.io/serviceaccount`.
    ///
    /// It is read only for what [`namespace`](Self::namespace),
    /// [`service_account`](Self::service_account) and
    /// [`bound_to_own_pod`](Self::bound_to_own_pod) leave open.
    pub fn own_mount(mut self, folder: impl Into<PathBuf>) -> Self {
        self.subject.mount = folder.into();
        self
    }

    /// Sets the time limit of one request with all its attempts. Defaults to 10 s. See
    /// [`ApiServer`] for the limit of each attempt.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.api_client.timeout = limit;
        self
    }

    /// Sets the clock of refreshes, expiry and back-off. Defaults to the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Checks the options. Makes no call and reads no file.
    ///
    /// # Errors
    ///
    /// [`TokenRequestBuildError`], which names the invalid option.
    pub fn build(mut self) -> Result<TokenRequestSource, TokenRequestBuildError> {
        let audiences = match (self.for_api_server, self.audiences.is_empty()) {
            (true, true) => Vec::new(),
            (true, false) => return Err(TokenRequestBuildError::ApiServerAndOtherAudiences),
            (false, _) => {
                let audiences =
                    Audiences::new(&self.audiences).map_err(TokenRequestBuildError::Audiences)?;
                audiences.required().unwrap_or_default().to_vec()
            }
        };
        let seconds = self.lifetime.as_secs();
        if !(SHORTEST_LIFETIME..=LONGEST_LIFETIME).contains(&seconds) {
            return Err(TokenRequestBuildError::Lifetime(self.lifetime));
        }
        let Subject { namespace, name, .. } = &self.subject;
        if let Some(namespace) =
            namespace.as_deref().filter(|namespace| Username::new(namespace, "x").is_none())
        {
            return Err(TokenRequestBuildError::Namespace(namespace.to_owned()));
        }
        if let Some(name) = name.as_deref().filter(|name| Username::new("x", name).is_none()) {
            return Err(TokenRequestBuildError::ServiceAccount(name.to_owned()));
        }
        self.api_client.clock = self.clock.clone();
        let request =
            Request::new(self.api_client, audiences, seconds, self.subject, self.clock.clone());
        Ok(TokenRequestSource::new(Refresher::new(request, self.clock)))
    }

    #[cfg(test)]
    pub(super) fn read(mut self, read: Arc<projected::Read>) -> Self {
        self.subject.read = read;
        self
    }
}

/// An invalid option of a [`TokenRequestBuilder`].
///
/// ```
/// # fn example(api: tower_kube_auth::ApiServer) {
/// use std::time::Duration;
/// use tower_kube_auth::client::{TokenRequestBuildError, TokenRequestSource};
///
/// let minute = Duration::from_secs(60);
/// let source = TokenRequestSource::builder(api).audience("orders").expires_in(minute);
/// assert_eq!(source.build().unwrap_err(), TokenRequestBuildError::Lifetime(minute));
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenRequestBuildError {
    /// The audiences are missing or invalid.
    Audiences(InvalidAudiences),
    /// Audiences are given together with `dangerous_api_server_audience`.
    ApiServerAndOtherAudiences,
    /// The lifetime is outside the limits of Kubernetes.
    Lifetime(Duration),
    /// The namespace is not a DNS label (RFC 1123).
    Namespace(String),
    /// The ServiceAccount's name is not a DNS subdomain (RFC 1123).
    ServiceAccount(String),
}

impl fmt::Display for TokenRequestBuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Audiences(InvalidAudiences::None) => f.write_str(
                "no audience is given: call .audience(\"…\") with the name that the called \
                     service expects",
            ),
            Self::Audiences(invalid) => invalid.fmt(f),
            Self::ApiServerAndOtherAudiences => f.write_str(
                "audience() and dangerous_api_server_audience() contradict each other: drop the \
                     latter",
            ),
            Self::Lifetime(lifetime) => write!(
                f,
                "expires_in is {lifetime:?}: Kubernetes grants from {SHORTEST_LIFETIME} s (10 minutes) \
                 to {LONGEST_LIFETIME} s (2^32)"
            ),
            Self::Namespace(namespace) => {
                write!(f, "{namespace:?} is not the name of a namespace (RFC 1123 label)")
            }
            Self::ServiceAccount(name) => {
                write!(f, "{name:?} is not the name of a ServiceAccount (RFC 1123 subdomain)")
            }
        }
    }
}

impl std::error::Error for TokenRequestBuildError {}
