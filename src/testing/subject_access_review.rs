//! `POST /apis/authorization.k8s.io/v1/subjectaccessreviews`, and `selfsubjectaccessreviews`

use serde_json::{Value, json};

use super::{
    objects::{set, text},
    request_info::RequestInfo,
    state::State,
    status::Status,
    user::User,
};

const GROUP: &str = "authorization.k8s.io";

impl State {
    pub(super) fn review_access(&self, review: Value) -> Result<Value, Status> {
        let spec = review.get("spec").cloned().unwrap_or_default();
        let groups = spec.get("groups").and_then(Value::as_array).into_iter().flatten();
        let user = User {
            name: text(&spec, "/user").to_owned(),
            uid: text(&spec, "/uid").to_owned(),
            groups: groups.filter_map(Value::as_str).map(str::to_owned).collect(),
            extra: Default::default(),
        };
        let request = attributes(&spec)?;
        if user.name.is_empty() && user.groups.is_empty() {
            let problem = "Invalid value: \"\": at least one of user or group must be specified";
            return Err(invalid("spec.user", problem));
        }
        Ok(self.reviewed("SubjectAccessReview", &user, &request, spec))
    }

    pub(super) fn review_own_access(&self, user: &User, review: Value) -> Result<Value, Status> {
        let spec = review.get("spec").cloned().unwrap_or_default();
        let request = attributes(&spec)?;
        Ok(self.reviewed("SelfSubjectAccessReview", user, &request, spec))
    }

    fn reviewed(&self, kind: &str, user: &User, request: &RequestInfo, spec: Value) -> Value {
        let decision = self.decide(user, request);
        let mut status = json!({"allowed": decision.allowed});
        if !decision.reason.is_empty() {
            set(&mut status, "reason", json!(decision.reason));
        }
        json!({
            "kind": kind,
            "apiVersion": format!("{GROUP}/v1"),
            "metadata": {"creationTimestamp": null},
            "spec": spec,
            "status": status,
        })
    }
}

fn attributes(spec: &Value) -> Result<RequestInfo, Status> {
    let about = |part: &str| spec.get(part).filter(|attributes| !attributes.is_null());
    Ok(match (about("resourceAttributes"), about("nonResourceAttributes")) {
        (Some(_), Some(_)) => {
            let problem = "Invalid value: \"null\": cannot be specified in combination with \
                               resourceAttributes";
            return Err(invalid("spec.nonResourceAttributes", problem));
        }
        (None, None) => {
            let problem = "Invalid value: \"null\": exactly one of nonResourceAttributes or \
                               resourceAttributes must be specified";
            return Err(invalid("spec.resourceAttributes", problem));
        }
        (Some(resource), None) => RequestInfo {
            is_resource: true,
            verb: text(resource, "/verb").to_owned(),
            group: text(resource, "/group").to_owned(),
            version: text(resource, "/version").to_owned(),
            namespace: text(resource, "/namespace").to_owned(),
            resource: text(resource, "/resource").to_owned(),
            subresource: text(resource, "/subresource").to_owned(),
            name: text(resource, "/name").to_owned(),
            path: String::new(),
        },
        (None, Some(path)) => RequestInfo {
            verb: text(path, "/verb").to_owned(),
            path: text(path, "/path").to_owned(),
            ..RequestInfo::default()
        },
    })
}

/// Returns a 422 without the kind in its message, as Kubernetes does.
fn invalid(field: &str, problem: &str) -> Status {
    Status::invalid(GROUP, "", "", field, "FieldValueInvalid", problem)
}
