//! The rule that asks the API server: its attributes and options.

use serde::Deserialize;

use super::{
    error::AuthConfigError,
    value::{DurationValue, apply},
};
use crate::{
    api_server::ApiServer,
    authorizer::{
        NonResourceAttributes, ResourceAttributes, SubjectAccessReviewAuthorizer,
        SubjectAccessReviewBuildError, SubjectAccessReviewBuilder,
    },
};

/// What the API server is asked (by default, about the path and the method of each request), and
/// the options of a `SubjectAccessReviewAuthorizer`.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct SubjectAccessReviewConfig {
    /// The right that every request needs, on a resource.
    resource: Option<ResourceConfig>,
    /// The right that every request needs, on a path.
    non_resource: Option<NonResourceConfig>,
    /// How long a decision to allow is cached.
    allowed_ttl: Option<DurationValue>,
    /// How long a decision to deny is cached.
    denied_ttl: Option<DurationValue>,
    /// How many decisions to allow are cached, and how many to deny.
    cache_capacity: Option<u64>,
    /// The limit on concurrent reviews.
    max_in_flight: Option<usize>,
    /// The time limit of a review with all its attempts.
    timeout: Option<DurationValue>,
}

/// The attributes of an access to a resource.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct ResourceConfig {
    /// The verb, such as `get`, `list` or `create`.
    verb: String,
    /// The plural name in lower case.
    resource: String,
    /// The API group. By default, the core group.
    group: Option<String>,
    /// The API version. By default none: RBAC does not look at it.
    version: Option<String>,
    /// The subresource, such as `status`.
    subresource: Option<String>,
    /// The namespace. By default, a right in all namespaces is needed.
    namespace: Option<String>,
    /// The name of the object. By default, a right on all names is needed.
    name: Option<String>,
}

/// The attributes of an access to a path.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct NonResourceConfig {
    /// An HTTP method in lower case.
    verb: String,
    /// The path, such as `/metrics`.
    path: String,
}

impl SubjectAccessReviewConfig {
    pub(super) fn build(
        &self,
        path: &str,
        api_server: &ApiServer,
    ) -> Result<SubjectAccessReviewAuthorizer, AuthConfigError> {
        self.builder(path, api_server)?.build().map_err(|error| self.locate(path, &error))
    }

    pub(super) fn builder(
        &self,
        path: &str,
        api_server: &ApiServer,
    ) -> Result<SubjectAccessReviewBuilder, AuthConfigError> {
        type Builder = SubjectAccessReviewBuilder;
        let mut builder = SubjectAccessReviewAuthorizer::builder(api_server.clone());
        builder = match (&self.resource, &self.non_resource) {
            (None, None) => builder,
            (Some(resource), None) => builder.attributes(resource.attributes()),
            (None, Some(NonResourceConfig { verb, path })) => {
                builder.attributes(NonResourceAttributes::new(verb, path))
            }
            (Some(_), Some(_)) => {
                let problem = "resource and non_resource contradict each other: keep one of them";
                return Err(AuthConfigError::new(path, problem));
            }
        };
        builder = apply(self.allowed_ttl, builder, Builder::allowed_ttl);
        builder = apply(self.denied_ttl, builder, Builder::denied_ttl);
        builder = apply(self.cache_capacity, builder, Builder::cache_capacity);
        builder = apply(self.max_in_flight, builder, Builder::max_in_flight);
        Ok(apply(self.timeout, builder, Builder::timeout))
    }

    fn locate(&self, path: &str, error: &SubjectAccessReviewBuildError) -> AuthConfigError {
        type Error = SubjectAccessReviewBuildError;
        let attributes = if self.resource.is_some() { "resource" } else { "non_resource" };
        let path = match error {
            Error::EmptyAttribute(name) => format!("{path}.{attributes}.{name}"),
            Error::TooSmall { option, .. } | Error::TooLong(option) => format!("{path}.{option}"),
            Error::TooManyInFlight => format!("{path}.max_in_flight"),
            Error::NoRandomness => path.to_owned(),
        };
        AuthConfigError::new(path, error)
    }
}

impl ResourceConfig {
    fn attributes(&self) -> ResourceAttributes {
        let Self { verb, resource, group, version, subresource, namespace, name } = self.clone();
        let attributes = ResourceAttributes::new(verb, resource);
        let attributes = apply(group, attributes, |to, group: String| to.group(group));
        let attributes = apply(version, attributes, |to, version: String| to.version(version));
        let attributes =
            apply(subresource, attributes, |to, subresource: String| to.subresource(subresource));
        let attributes =
            apply(namespace, attributes, |to, namespace: String| to.namespace(namespace));
        apply(name, attributes, |to, name: String| to.name(name))
    }
}
