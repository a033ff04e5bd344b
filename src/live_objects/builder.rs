//! The options of the watched objects, checked in `build()`.

use std::fmt;

use super::{handle::LiveObjects, kind::ObjectKind, scope::Scopes};
use crate::{api_server::ApiServer, clock::Clock};

/// Options of [`LiveObjects`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_kube_auth::{LiveObjects, testing::Cluster};
///
/// let cluster = Cluster::start().await?;
/// let live_objects = LiveObjects::builder(cluster.admin_client()?)
///     .namespaces(["shop", "ops"])
///     .watch_nodes()
///     .build()?;
/// assert_eq!(live_objects.state().len(), 5, "two kinds in two namespaces, and the nodes");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct LiveObjectsBuilder {
    server: ApiServer,
    kinds: Vec<ObjectKind>,
    namespaces: Option<Vec<String>>,
    keep_labels: bool,
    clock: Clock,
}

impl LiveObjects {
    /// Watches the objects of `server`.
    pub fn builder(server: impl Into<ApiServer>) -> LiveObjectsBuilder {
        LiveObjectsBuilder {
            server: server.into(),
            kinds: vec![ObjectKind::ServiceAccount, ObjectKind::Pod],
            namespaces: None,
            keep_labels: false,
            clock: Clock::system(),
        }
    }
}

impl LiveObjectsBuilder {
    /// Watches these namespaces only, each with connections of its own. Defaults to the whole
    /// cluster.
    ///
    /// Needs `list` and `watch` in these namespaces instead of the whole cluster. Nothing is known
    /// about the objects of other namespaces.
    pub fn namespaces(mut self, namespaces: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.namespaces = Some(namespaces.into_iter().map(Into::into).collect());
        self
    }

    /// Watches Secrets too, for tokens that are bound to one. Off by default.
    ///
    /// Only metadata is requested, but the right to list and watch Secrets covers their content:
    /// whoever gets this service's own token can read all of them.
    pub fn watch_secrets(mut self) -> Self {
        self.kinds.push(ObjectKind::Secret);
        self
    }

    /// Watches Nodes too, for tokens that are bound to a Node and to no Pod (Kubernetes 1.29 and
    /// newer). Off by default. Needs `list` and `watch` on `nodes` in the whole cluster.
    pub fn watch_nodes(mut self) -> Self {
        self.kinds.push(ObjectKind::Node);
        self
    }

    /// Keeps the labels and owner references of Pods, for [`LiveObjects::pod`]. Off by default,
    /// because they take several times the memory of everything else that is kept of a Pod: about
    /// 700 bytes for five labels and an owner.
    ///
    /// A Pod whose labels have more than 16 KiB as JSON appears to have none, and so do its owner
    /// references. Whoever may create Pods could fill the memory otherwise.
    pub fn keep_labels(mut self) -> Self {
        self.keep_labels = true;
        self
    }

    /// Sets the clock, for tests. Defaults to the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Builds the handle, and starts to watch. Outside of a Tokio runtime, the watch starts with
    /// the first use within one.
    ///
    /// # Errors
    /// If the namespaces are an empty list, or one of them is not the name of a namespace.
    pub fn build(self) -> Result<LiveObjects, LiveObjectsBuildError> {
        if self.namespaces.as_ref().is_some_and(Vec::is_empty) {
            return Err(LiveObjectsBuildError::NoNamespace);
        }
        let namespaces = self.namespaces.unwrap_or_default();
        if let Some(invalid) = namespaces.iter().find(|namespace| !is_dns_label(namespace)) {
            return Err(LiveObjectsBuildError::Namespace(invalid.clone()));
        }
        let scopes = Scopes::new(&self.kinds, &namespaces, self.keep_labels, self.clock);
        Ok(LiveObjects::new(self.server, scopes))
    }
}

/// Whether `text` may be the name of a namespace (RFC 1123).
fn is_dns_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(is_inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Why [`LiveObjectsBuilder::build`] fails.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_kube_auth::{LiveObjects, live_objects::LiveObjectsBuildError, testing::Cluster};
///
/// let cluster = Cluster::start().await?;
/// let builder = LiveObjects::builder(cluster.admin_client()?).namespaces(["shop/pods"]);
/// let error = builder.build().unwrap_err();
/// assert_eq!(error, LiveObjectsBuildError::Namespace("shop/pods".into()));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LiveObjectsBuildError {
    /// The list of namespaces is empty, which would watch nothing.
    NoNamespace,
    /// This is not the name of a namespace.
    Namespace(String),
}

impl fmt::Display for LiveObjectsBuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNamespace => f.write_str(
                "namespaces() got an empty list: name a namespace, or drop the call to watch the \
                 whole cluster",
            ),
            Self::Namespace(name) => write!(f, "{name:?} is not the name of a namespace"),
        }
    }
}

impl std::error::Error for LiveObjectsBuildError {}
