//! Request attributes from method and path (`k8s.io/apiserver/pkg/endpoints/request`).

use http::Method;

use super::{endpoint::Endpoint, list_options::is_watch};

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct RequestInfo {
    pub(super) verb: String,
    pub(super) path: String,
    /// Whether the following fields apply.
    pub(super) is_resource: bool,
    pub(super) group: String,
    pub(super) version: String,
    pub(super) namespace: String,
    pub(super) resource: String,
    pub(super) subresource: String,
    pub(super) name: String,
}

impl RequestInfo {
    pub(super) fn of(method: &Method, path: &str, query: &str) -> Self {
        let mut info =
            Self { path: path.to_owned(), verb: method.as_str().to_lowercase(), ..Self::default() };
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let rest = match parts.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => {
                info.version = (*version).to_owned();
                rest
            }
            ["apis", group, version, rest @ ..] if !rest.is_empty() => {
                info.group = (*group).to_owned();
                info.version = (*version).to_owned();
                rest
            }
            _ => return info,
        };
        info.is_resource = true;
        let (namespace, parts) = match rest {
            // `namespaces/x` is the namespace itself; its name is its namespace too.
            ["namespaces", name] => (*name, rest),
            ["namespaces", name, inner @ ..] => (*name, inner),
            _ => ("", rest),
        };
        let part = |at: usize| parts.get(at).copied().unwrap_or_default().to_owned();
        info.namespace = namespace.to_owned();
        (info.resource, info.name, info.subresource) = (part(0), part(1), part(2));
        info.verb = match (method.as_str(), info.name.is_empty()) {
            ("POST", _) => "create",
            ("GET" | "HEAD", true) if is_watch(query) => "watch",
            ("GET" | "HEAD", true) => "list",
            ("GET" | "HEAD", false) => "get",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", true) => "deletecollection",
            ("DELETE", false) => "delete",
            _ => "",
        }
        .to_owned();
        info
    }

    /// Returns the resource with its subresource, as in `serviceaccounts/token`.
    pub(super) fn full_resource(&self) -> String {
        match self.subresource.as_str() {
            "" => self.resource.clone(),
            sub => format!("{}/{sub}", self.resource),
        }
    }

    /// Returns the endpoint for counts and faults.
    pub(super) fn endpoint(&self) -> Option<Endpoint> {
        match (self.group.as_str(), self.resource.as_str(), self.subresource.as_str()) {
            ("authentication.k8s.io", "tokenreviews", "") => Some(Endpoint::TokenReview),
            ("authorization.k8s.io", "subjectaccessreviews", "") => {
                Some(Endpoint::SubjectAccessReview)
            }
            ("authorization.k8s.io", "selfsubjectaccessreviews", "") => {
                Some(Endpoint::SelfSubjectAccessReview)
            }
            ("", "serviceaccounts", "token") => Some(Endpoint::TokenRequest),
            _ => match self.path.trim_end_matches('/') {
                "/.well-known/openid-configuration" => Some(Endpoint::Discovery),
                "/openid/v1/jwks" => Some(Endpoint::Jwks),
                _ if !self.is_resource => None,
                _ => match self.verb.as_str() {
                    "list" => Some(Endpoint::List),
                    "watch" => Some(Endpoint::Watch),
                    _ => None,
                },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_parsed_as_in_kubernetes() {
        let read = |method: Method, path: &str| {
            let (path, query) = path.split_once('?').unwrap_or((path, ""));
            let info = RequestInfo::of(&method, path, query);
            [
                info.verb.clone(),
                info.group.clone(),
                info.namespace.clone(),
                info.full_resource(),
                info.name,
            ]
        };
        assert_eq!(read(Method::GET, "/api/v1/namespaces/a/pods/p"), ["get", "", "a", "pods", "p"]);
        assert_eq!(read(Method::GET, "/api/v1/pods"), ["list", "", "", "pods", ""]);
        assert_eq!(
            read(Method::GET, "/api/v1/namespaces/a/pods?watch=true"),
            ["watch", "", "a", "pods", ""]
        );
        assert_eq!(
            read(Method::DELETE, "/api/v1/namespaces/a"),
            ["delete", "", "a", "namespaces", "a"]
        );
        assert_eq!(
            read(Method::POST, "/api/v1/namespaces/a/serviceaccounts/s/token"),
            ["create", "", "a", "serviceaccounts/token", "s"]
        );
        assert_eq!(
            read(Method::POST, "/apis/authentication.k8s.io/v1/tokenreviews"),
            ["create", "authentication.k8s.io", "", "tokenreviews", ""]
        );
        assert_eq!(read(Method::GET, "/openid/v1/jwks"), ["get", "", "", "", ""]);
        assert!(!RequestInfo::of(&Method::GET, "/api/v1", "").is_resource);
    }
}
