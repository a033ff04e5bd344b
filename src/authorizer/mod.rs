//! Authorizers: whether an authenticated caller may do what its request asks for.
//!
//! [`AllowList`] decides by names and groups, [`SubjectAccessReviewAuthorizer`] by the cluster's
//! RBAC, [`authorize_fn`] by a closure, and any type that implements [`Authorizer`] by its own
//! rules. [`PerAudience`], [`all_of`] and [`any_of`] combine them.
//! [`AuthorizeLayer`](crate::server::AuthorizeLayer) puts an authorizer in front of a service.
//!
//! ```
//! use http::Request;
//! use tower_kube_auth::{
//!     authorizer::{AllowList, Authorizer, Decision, RequestHead},
//!     testing::IdentityBuilder,
//! };
//!
//! let list = AllowList::new(["shop/checkout", "ops/*"]).unwrap();
//! let request = Request::get("/orders").body(()).unwrap();
//! let decide = |namespace, name| {
//!     let caller = IdentityBuilder::new(namespace, name).build();
//!     list.authorize_now(&caller, RequestHead::from(&request))
//! };
//!
//! assert_eq!(decide("shop", "checkout"), Some(Decision::Allow));
//! assert_eq!(decide("ops", "anyone"), Some(Decision::Allow));
//! assert!(matches!(decide("shop", "basket"), Some(Decision::Deny(_))));
//! ```

mod allow_list;
mod authorize_fn;
#[expect(clippy::module_inception, reason = "the trait is what the module is about")]
mod authorizer;
mod combinators;
mod decision;
mod dyn_authorizer;
mod error;
mod per_audience;
mod request_head;
mod subject_access_review;

pub use allow_list::{AllowList, AllowListBuildError};
pub use authorize_fn::{AuthorizeFn, authorize_fn};
pub use authorizer::Authorizer;
pub use combinators::{AllOf, AnyOf, all_of, any_of};
pub use decision::{Decision, DenyReason};
pub use dyn_authorizer::DynAuthorizer;
pub use error::{AuthorizeError, AuthorizeErrorKind};
pub use per_audience::{PerAudience, PerAudienceBuildError, PerAudienceBuilder};
pub use request_head::RequestHead;
pub use subject_access_review::{
    AccessAttributes, NonResourceAttributes, ResourceAttributes, SubjectAccessReviewAuthorizer,
    SubjectAccessReviewBuildError, SubjectAccessReviewBuilder, SubjectAccessReviewMetrics,
};
