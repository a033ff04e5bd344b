//! What can be asked for, and what is wrong with it before anybody is asked.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use kube::Client;

use super::{
    TokenRequestSource,
    request::{Request, api_server},
    subject::{Binding, BoundObjectRef, Subject},
};
use crate::{
    api_server::ApiServer,
    audience::{Audiences, InvalidAudiences},
    client::{projected, refresher::Refresher},
    clock::Clock,
    identity::Username,
};

/// What Kubernetes takes for a request that does not say.
const DEFAULT_LIFE: Duration = Duration::from_secs(60 * 60);
/// The API server's own limits (`pkg/apis/authentication/validation`).
const SHORTEST_LIFE: u64 = 10 * 60;
const LONGEST_LIFE: u64 = 1 << 32;

/// Options for a [`TokenRequestSource`]; made by [`TokenRequestSource::builder`], which has an example.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct TokenRequestBuilder {
    api_server: ApiServer,
    audiences: Vec<String>,
    for_api_server: bool,
    life: Duration,
    subject: Subject,
    clock: Clock,
}

impl TokenRequestBuilder {
    pub(super) fn new(client: Client) -> Self {
        let subject = Subject {
            namespace: None,
            name: None,
            binding: Binding::None,
            mount: projected::STANDARD_MOUNT.into(),
            read: Arc::new(projected::from_disk),
        };
        Self {
            api_server: api_server(client),
            audiences: Vec::new(),
            for_api_server: false,
            life: DEFAULT_LIFE,
            subject,
            clock: Clock::system(),
        }
    }

    /// Adds an audience: the name that the called service expects in `aud`. Required.
    ///
    /// A token with several audiences lets each of those services act as this one at the others; better have a source
    /// for each.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// Requests a token for the API server itself, by naming no audience.
    ///
    /// Any service that gets such a token can do in the cluster whatever this ServiceAccount may. Only for calls to the
    /// API server.
    pub fn dangerous_api_server_audience(mut self) -> Self {
        self.for_api_server = true;
        self
    }

    /// Sets how long each token is to live, in whole seconds (`expirationSeconds`). Defaults to 1 h, from 10 min to 2³² s.
    ///
    /// The API server may grant less; the source goes by its answer.
    pub fn expires_in(mut self, life: Duration) -> Self {
        self.life = life;
        self
    }

    /// Sets the ServiceAccount's namespace. Defaults to our own: that of our own token's claims, or of the `namespace`
    /// file beside it.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.subject.namespace = Some(namespace.into());
        self
    }

    /// Sets the ServiceAccount's name. Defaults to our own, from our own token's claims.
    pub fn service_account(mut self, name: impl Into<String>) -> Self {
        self.subject.name = Some(name.into());
        self
    }

    /// Binds the tokens to an object, so that they end with it. By default they end with their ServiceAccount only.
    pub fn bound_to(mut self, object: BoundObjectRef) -> Self {
        self.subject.binding = Binding::Object(object);
        self
    }

    /// Binds the tokens to the Pod that we run in, by the name and uid in our own token's claims.
    pub fn bound_to_own_pod(mut self) -> Self {
        self.subject.binding = Binding::OwnPod;
        self
    }

    /// Sets the folder with our own `token` and `namespace`. Defaults to `/var/run/secrets/kubernetes.io/serviceaccount`.
    ///
    /// It is only looked into for what [`namespace`](Self::namespace), [`service_account`](Self::service_account) and
    /// [`bound_to_own_pod`](Self::bound_to_own_pod) leave open.
    pub fn own_mount(mut self, folder: impl Into<PathBuf>) -> Self {
        self.subject.mount = folder.into();
        self
    }

    /// Sets the time limit for one request with all its attempts. Defaults to 10 s.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.api_server.timeout = limit;
        self
    }

    /// Sets the clock of refreshes, expiry and back-off. Defaults to the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Checks the options. Makes no call and reads no file yet.
    ///
    /// # Errors
    ///
    /// [`TokenRequestBuildError`], which names the option and what is wrong with it.
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
        let seconds = self.life.as_secs();
        if !(SHORTEST_LIFE..=LONGEST_LIFE).contains(&seconds) {
            return Err(TokenRequestBuildError::Lifetime(self.life));
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
        self.api_server.clock = self.clock.clone();
        let request =
            Request::new(self.api_server, audiences, seconds, self.subject, self.clock.clone());
        Ok(TokenRequestSource(Refresher::new(request, self.clock)))
    }

    #[cfg(test)]
    pub(super) fn read(mut self, read: Arc<projected::Read>) -> Self {
        self.subject.read = read;
        self
    }
}

/// Why a [`TokenRequestBuilder`] does not build.
///
/// ```
/// # fn example(client: kube::Client) {
/// use std::time::Duration;
/// use tower_kube_auth::client::{TokenRequestBuildError, TokenRequestSource};
///
/// let minute = Duration::from_secs(60);
/// let refused = TokenRequestSource::builder(client).audience("orders").expires_in(minute).build().unwrap_err();
/// assert_eq!(refused, TokenRequestBuildError::Lifetime(minute));
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenRequestBuildError {
    /// The audiences are missing or unusable.
    Audiences(InvalidAudiences),
    /// Audiences are given, and `dangerous_api_server_audience` too.
    ApiServerAndOtherAudiences,
    /// The life is outside of what Kubernetes grants.
    Lifetime(Duration),
    /// The namespace is no DNS label (RFC 1123).
    Namespace(String),
    /// The ServiceAccount's name is no DNS subdomain (RFC 1123).
    ServiceAccount(String),
}

impl fmt::Display for TokenRequestBuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Audiences(InvalidAudiences::None) => {
                f.write_str("no audience is given: call .audience(\"…\") with the name that the called service expects")
            }
            Self::Audiences(invalid) => invalid.fmt(f),
            Self::ApiServerAndOtherAudiences => {
                f.write_str("audience() and dangerous_api_server_audience() contradict each other: drop the latter")
            }
            Self::Lifetime(life) => write!(
                f,
                "expires_in is {life:?}: Kubernetes grants from {SHORTEST_LIFE} s (10 minutes) to {LONGEST_LIFE} s (2^32)"
            ),
            Self::Namespace(namespace) => write!(f, "{namespace:?} is not the name of a namespace (RFC 1123 label)"),
            Self::ServiceAccount(name) => {
                write!(f, "{name:?} is not the name of a ServiceAccount (RFC 1123 subdomain)")
            }
        }
    }
}

impl std::error::Error for TokenRequestBuildError {}
