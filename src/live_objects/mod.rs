//! Objects that tokens are bound to, kept current by a watch: which of them are deleted is known
//! within a second and without a TokenReview.

#![allow(dead_code, unused_imports, reason = "the verifier that asks is not there yet")]

mod builder;
mod handle;
mod kind;
mod liveness;
mod named_object;

pub use builder::LiveObjectsBuilder;
pub use handle::LiveObjects;
pub(crate) use handle::OnDeleted;
pub(crate) use kind::ObjectKind;
pub(crate) use liveness::Liveness;
pub(crate) use named_object::{NamedObject, remaining};
