//! What a caller wants to do, in the words of Kubernetes' authorization.

use std::borrow::Cow;

use http::Method;
use serde::Serialize;

use crate::{authorizer::RequestHead, cache::DigestWriter};

/// What a SubjectAccessReview asks about: a resource, or a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AccessAttributes {
    /// A verb on a Kubernetes resource; the resource need not exist.
    Resource(ResourceAttributes),
    /// A verb on a path, as in a ClusterRole's `nonResourceURLs`.
    NonResource(NonResourceAttributes),
}

/// The attributes of an access to a resource (`authorization.k8s.io/v1` `ResourceAttributes`).
///
/// What is not set is empty, as in Kubernetes: the core group, the whole cluster, every name.
///
/// ```
/// use tower_kube_auth::authorizer::ResourceAttributes;
///
/// let may_write_orders = ResourceAttributes::new("create", "orders")
///     .group("shop.example.org")
///     .namespace("shop");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[must_use]
pub struct ResourceAttributes {
    pub(super) verb: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    pub(super) resource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    subresource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
}

/// The attributes of an access to a path (`authorization.k8s.io/v1` `NonResourceAttributes`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[must_use]
pub struct NonResourceAttributes {
    pub(super) path: String,
    pub(super) verb: String,
}

impl ResourceAttributes {
    /// Returns the attributes of `verb` (`get`, `list`, `create`, …) on `resource`, the plural name
    /// in lower case, in the core group.
    pub fn new(verb: impl Into<String>, resource: impl Into<String>) -> Self {
        let empty = String::new;
        Self {
            verb: verb.into(),
            resource: resource.into(),
            group: empty(),
            version: empty(),
            subresource: empty(),
            namespace: empty(),
            name: empty(),
        }
    }

    /// Sets the API group, `apps` for instance. Defaults to the core group.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = group.into();
        self
    }

    /// Sets the API version. Defaults to none; RBAC does not look at it.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// Sets the subresource, `status` or `log` for instance. Defaults to none.
    pub fn subresource(mut self, subresource: impl Into<String>) -> Self {
        self.subresource = subresource.into();
        self
    }

    /// Sets the namespace. Defaults to all namespaces: a right within one is then not enough.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Sets the name of the object. Defaults to all names: a right on one is then not enough.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }
}

impl NonResourceAttributes {
    /// Returns the attributes of `verb`, an HTTP method in lower case, on `path`.
    pub fn new(verb: impl Into<String>, path: impl Into<String>) -> Self {
        Self { verb: verb.into(), path: path.into() }
    }
}

impl From<ResourceAttributes> for AccessAttributes {
    fn from(attributes: ResourceAttributes) -> Self {
        Self::Resource(attributes)
    }
}

impl From<NonResourceAttributes> for AccessAttributes {
    fn from(attributes: NonResourceAttributes) -> Self {
        Self::NonResource(attributes)
    }
}

/// The attributes of one request, borrowed from it where possible: a cached decision must not cost
/// an allocation.
pub(super) enum RequestAttributes<'a> {
    Head { path: &'a str, verb: Cow<'a, str> },
    Given(Cow<'a, AccessAttributes>),
}

impl<'a> RequestAttributes<'a> {
    /// Returns the path as requested, without the query, and the method in lower case.
    pub(super) fn of_head(head: RequestHead<'a>) -> Self {
        Self::Head { path: head.uri().path(), verb: verb(head.method()) }
    }

    /// Writes all fields, unambiguously.
    pub(super) fn write_to(&self, writer: &mut DigestWriter) {
        let given = match self {
            Self::Head { path, verb } => return write_non_resource(writer, path, verb),
            Self::Given(given) => &**given,
        };
        match given {
            AccessAttributes::NonResource(NonResourceAttributes { path, verb }) => {
                write_non_resource(writer, path, verb);
            }
            AccessAttributes::Resource(ResourceAttributes {
                verb,
                group,
                version,
                resource,
                subresource,
                namespace,
                name,
            }) => {
                writer.part(b"resource");
                for field in [verb, group, version, resource, subresource, namespace, name] {
                    writer.part(field.as_bytes());
                }
            }
        }
    }

    pub(super) fn into_owned(self) -> AccessAttributes {
        match self {
            Self::Head { path, verb } => NonResourceAttributes::new(verb, path).into(),
            Self::Given(given) => given.into_owned(),
        }
    }
}

/// Whether a router behind the authorizer may take `path` for another one: it has `.`, `..` or empty
/// segments, or such that escapes or backslashes may stand for.
pub(super) fn may_be_normalized(path: &str) -> bool {
    let is_dots = |segment: &str| segment == "." || segment == "..";
    let is_escaped = |bytes: &[u8]| {
        [b"%2e", b"%2f", b"%5c"].iter().any(|escape| bytes.eq_ignore_ascii_case(*escape))
    };
    path.contains("//")
        || path.contains('\\')
        || path.split('/').any(is_dots)
        || path.as_bytes().windows(3).any(is_escaped)
}

fn write_non_resource(writer: &mut DigestWriter, path: &str, verb: &str) {
    writer.part(b"path");
    writer.part(path.as_bytes());
    writer.part(verb.as_bytes());
}

/// Returns the verb of a non-resource request: the HTTP method in lower case, as kube-apiserver and
/// controller-runtime have it.
fn verb(method: &Method) -> Cow<'_, str> {
    Cow::Borrowed(match method.as_str() {
        "GET" => "get",
        "HEAD" => "head",
        "POST" => "post",
        "PUT" => "put",
        "PATCH" => "patch",
        "DELETE" => "delete",
        "OPTIONS" => "options",
        other => return Cow::Owned(other.to_ascii_lowercase()),
    })
}
