//! Objects that tokens are bound to, kept current by a watch: a deletion is known within a second,
//! without a TokenReview.
//!
//! A token names its ServiceAccount, and its Pod if it was projected into one, by UID. It is valid
//! only as long as these exist, which its signature cannot show. [`LiveObjects`] lists them once and
//! then watches them, metadata only, in one connection for each kind. It keeps the UID and the time
//! of deletion, in about 100 bytes an object.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use tower_kube_auth::{ApiServer, LiveObjects, testing::Cluster};
//!
//! let cluster = Cluster::start().await?;
//! let api = ApiServer::from(cluster.admin_client()?); // in a service: ApiServer::try_default().await?
//! let live_objects = LiveObjects::builder(api).build()?;
//! if tokio::time::timeout(Duration::from_secs(10), live_objects.synced()).await.is_err() {
//!     eprintln!("not synced: {:?}", live_objects.state());
//! }
//! # Ok(()) }
//! ```
//!
//! # Rights
//!
//! This service's own ServiceAccount needs `list` and `watch` on `serviceaccounts` and `pods`, in
//! the whole cluster or in the chosen [namespaces](LiveObjectsBuilder::namespaces). The manifest
//! `examples/kubernetes/live-objects.yaml` has the ClusterRole. Without the right on one kind,
//! [`LiveObjects::state`] and a warning name the missing rule, and the other kinds are watched.
//!
//! # Failures
//!
//! | what happens | what follows |
//! |---|---|
//! | a connection breaks, or the API server cannot be reached | all objects are listed again, after pauses that grow from about 0.5 s to 30 s |
//! | no byte for 75 s, as on a half-open connection | all objects are listed again |
//! | the API server has forgotten the version (410) | all objects are listed again; twice in a row is a failure |
//! | a page of a list has more than 16 MiB | it is requested again with half as many objects; that of one object is a failure |
//! | something else than a list is sent, without `kind` or `items` | it is a failure, and no object counts as deleted |
//! | objects were deleted meanwhile | the list does not contain them: they count as deleted |
//! | the API server was restored from a backup | the connection breaks, and all objects are listed again |
//! | 403 on one kind | a warning with the missing rule; tried again every 15 to 45 s |
//! | the watch ends at its time, after about 4 min | another one goes on from there |
//!
//! kube-apiserver sends a bookmark to a quiet watch about once a minute, but not before Kubernetes
//! 1.21. There, a kind without changes is listed every 75 s.

mod api_object;
mod builder;
mod handle;
mod index;
mod kind;
mod liveness;
mod named_object;
mod pod_metadata;
mod scope;
mod subscribers;
#[cfg(test)]
mod tests;
mod uid;
mod watch_state;
mod watcher;

pub use builder::{LiveObjectsBuildError, LiveObjectsBuilder};
pub use handle::LiveObjects;
pub(crate) use kind::ObjectKind;
pub(crate) use liveness::Liveness;
pub(crate) use named_object::{NamedObject, remaining};
pub use pod_metadata::{OwnerReference, PodMetadata};
pub(crate) use subscribers::Ended;
pub use watch_state::{WatchPhase, WatchState};
