//! The identity of a ServiceAccount, and what Kubernetes says about users.

mod authenticator_id;
pub(crate) mod extra_key;
mod group;
#[expect(clippy::module_inception, reason = "the type is what the module is about")]
mod identity;
mod packed;
mod serialize;
mod user_info;
mod username;

pub(crate) use authenticator_id::AuthenticatorId;
#[cfg(feature = "jwks")]
pub(crate) use identity::Details;
pub use identity::{BoundObject, ServiceAccountIdentity};
pub use user_info::UserInfo;
pub(crate) use user_info::or_default;
pub(crate) use username::Username;
