//! Error responses of the API server: `Status` objects.

use http::StatusCode;
use serde_json::{Map, Value, json};

/// A failure, with the messages of `k8s.io/apimachinery/pkg/api/errors`, since clients read them.
#[derive(Clone, Debug)]
pub(super) struct Status {
    pub(super) code: StatusCode,
    pub(super) reason: &'static str,
    pub(super) message: String,
    details: Option<Value>,
}

impl Status {
    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None }
    }

    pub(super) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(super) fn too_large() -> Self {
        let message = "Request entity too large: limit is 3145728";
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
    }

    pub(super) fn not_acceptable(message: &str) -> Self {
        Self::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message)
    }

    /// Returns a 410: the version is compacted.
    pub(super) fn expired(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "Expired", message)
    }

    /// Returns a 504: the version is newer than the store.
    pub(super) fn too_large_resource_version(asked: u64, current: u64) -> Self {
        let message = format!("Too large resource version: {asked}, current: {current}");
        let cause = json!({
            "reason": "ResourceVersionTooLarge", "message": "Too large resource version",
        });
        Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message)
            .about(json!({"causes": [cause], "retryAfterSeconds": 1}))
    }

    /// Returns a 422 for query parameters. `problem` names the field.
    pub(super) fn invalid_list_options(problem: &str) -> Self {
        let message = format!("ListOptions.meta.k8s.io \"\" is invalid: {problem}");
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message).about(details(
            "meta.k8s.io",
            "ListOptions",
            "",
        ))
    }

    pub(super) fn unknown_resource() -> Self {
        let message = "the server could not find the requested resource";
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).about(json!({}))
    }

    pub(super) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message).about(json!({}))
    }

    pub(super) fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", qualified(resource, group));
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).about(details(group, resource, name))
    }

    pub(super) fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", qualified(resource, group));
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message)
            .about(details(group, resource, name))
    }

    pub(super) fn conflict(group: &str, resource: &str, name: &str, cause: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{name}\": {cause}",
            qualified(resource, group)
        );
        Self::new(StatusCode::CONFLICT, "Conflict", message).about(details(group, resource, name))
    }

    /// `cause` says who cannot do what. Without a resource it is the whole message.
    pub(super) fn forbidden(group: &str, resource: &str, name: &str, cause: &str) -> Self {
        let message = match (resource, name) {
            ("", _) => format!("forbidden: {cause}"),
            (_, "") => format!("{} is forbidden: {cause}", qualified(resource, group)),
            _ => format!("{} \"{name}\" is forbidden: {cause}", qualified(resource, group)),
        };
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message).about(details(group, resource, name))
    }

    /// Returns a 422 for one field of `kind`. `reason` is `FieldValueInvalid` or
    /// `FieldValueRequired`.
    pub(super) fn invalid(
        group: &str,
        kind: &str,
        name: &str,
        field: &str,
        reason: &str,
        problem: &str,
    ) -> Self {
        let message =
            format!("{} \"{name}\" is invalid: {field}: {problem}", qualified(kind, group));
        let mut about = details(group, kind, name);
        if let Some(about) = about.as_object_mut() {
            let cause = json!([{"reason": reason, "message": problem, "field": field}]);
            about.insert("causes".to_owned(), cause);
        }
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message).about(about)
    }

    fn about(self, details: Value) -> Self {
        Self { details: Some(details), ..self }
    }

    pub(super) fn to_json(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code.as_u16(),
        });
        if let (Some(details), Some(status)) = (&self.details, status.as_object_mut()) {
            status.insert("details".to_owned(), details.clone());
        }
        status
    }
}

fn qualified(resource: &str, group: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

fn details(group: &str, kind: &str, name: &str) -> Value {
    let fields = [("name", name), ("group", group), ("kind", kind)];
    let fields = fields.iter().filter(|(_, value)| !value.is_empty());
    Value::Object(
        fields.map(|(key, value)| ((*key).to_owned(), json!(value))).collect::<Map<_, _>>(),
    )
}
