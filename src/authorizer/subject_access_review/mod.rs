//! Authorization by the cluster: the SubjectAccessReview API.

mod attributes;
mod authorizer;
mod builder;
mod metrics;
mod review;

pub use self::metrics::SubjectAccessReviewMetrics;
pub use attributes::{AccessAttributes, NonResourceAttributes, ResourceAttributes};
pub use authorizer::SubjectAccessReviewAuthorizer;
pub use builder::{SubjectAccessReviewBuildError, SubjectAccessReviewBuilder};
