//! RBAC authorizer over the stored roles and bindings (`plugin/pkg/auth/authorizer/rbac`).

use serde_json::Value;

use super::{
    lock::lock,
    objects::{Objects, text},
    request_info::RequestInfo,
    state::State,
    status::Status,
    user::User,
};

impl State {
    /// Returns the API server's 403 if RBAC does not allow the request.
    pub(super) fn authorize(&self, user: &User, request: &RequestInfo) -> Result<(), Status> {
        let decision = self.decide(user, request);
        if decision.allowed {
            return Ok(());
        }
        let who = &user.name;
        let mut cause = if request.is_resource {
            let scope = match request.namespace.as_str() {
                "" => "at the cluster scope".to_owned(),
                namespace => format!("in the namespace {namespace:?}"),
            };
            format!(
                "User {who:?} cannot {} resource {:?} in API group {:?} {scope}",
                request.verb,
                request.full_resource(),
                request.group,
            )
        } else {
            format!("User {who:?} cannot {} path {:?}", request.verb, request.path)
        };
        if !decision.reason.is_empty() {
            cause = format!("{cause}: {}", decision.reason);
        }
        Err(Status::forbidden(&request.group, &request.resource, &request.name, &cause))
    }

    pub(super) fn decide(&self, user: &User, request: &RequestInfo) -> Decision {
        // The "privileged group" authorizer runs before RBAC and gives no reason.
        if user.groups.iter().any(|group| group == "system:masters") {
            return Decision { allowed: true, reason: String::new() };
        }
        let objects = lock(&self.objects);
        let mut missing = Vec::new();
        let mut bindings: Vec<&Value> = objects.list("clusterrolebindings", "").collect();
        if !request.namespace.is_empty() {
            bindings.extend(objects.list("rolebindings", &request.namespace));
        }
        for binding in bindings {
            let home = text(binding, "/metadata/namespace");
            let subjects = binding.get("subjects").and_then(Value::as_array).into_iter().flatten();
            let Some(subject) = subjects.into_iter().find(|subject| applies(subject, user, home))
            else {
                continue;
            };
            let (kind, role) = (text(binding, "/roleRef/kind"), text(binding, "/roleRef/name"));
            let rules = match rules(&objects, kind, home, role) {
                Ok(rules) => rules,
                Err(not_found) => {
                    missing.push(not_found);
                    continue;
                }
            };
            if rules.iter().any(|rule| allows(rule, request)) {
                let whom = describe(subject, home);
                let name = text(binding, "/metadata/name");
                let binding = match home {
                    "" => format!("ClusterRoleBinding {name:?}"),
                    _ => format!("RoleBinding {:?}", format!("{name}/{home}")),
                };
                let reason = format!("RBAC: allowed by {binding} of {kind} {role:?} to {whom}");
                return Decision { allowed: true, reason };
            }
        }
        let reason = match missing.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            several => format!("RBAC: [{}]", several.join(", ")),
        };
        Decision { allowed: false, reason }
    }
}

pub(super) struct Decision {
    pub(super) allowed: bool,
    pub(super) reason: String,
}

fn rules(objects: &Objects, kind: &str, namespace: &str, role: &str) -> Result<Vec<Value>, String> {
    let (plural, namespace) =
        if kind == "Role" { ("roles", namespace) } else { ("clusterroles", "") };
    match objects.get(plural, namespace, role) {
        Some(role) => Ok(role.get("rules").and_then(Value::as_array).cloned().unwrap_or_default()),
        // A lister's error names the kind in the singular.
        None => Err(format!(
            "{}.rbac.authorization.k8s.io {role:?} not found",
            plural.trim_end_matches('s')
        )),
    }
}

fn applies(subject: &Value, user: &User, home: &str) -> bool {
    let name = text(subject, "/name");
    match text(subject, "/kind") {
        "User" => user.name == name,
        "Group" => user.groups.iter().any(|group| group == name),
        "ServiceAccount" => {
            let namespace = Some(text(subject, "/namespace"))
                .filter(|namespace| !namespace.is_empty())
                .unwrap_or(home);
            user.name == format!("system:serviceaccount:{namespace}:{name}")
        }
        _ => false,
    }
}

fn describe(subject: &Value, home: &str) -> String {
    let (kind, name) = (text(subject, "/kind"), text(subject, "/name"));
    if kind != "ServiceAccount" {
        return format!("{kind} {name:?}");
    }
    let namespace =
        Some(text(subject, "/namespace")).filter(|namespace| !namespace.is_empty()).unwrap_or(home);
    format!("{kind} {:?}", format!("{name}/{namespace}"))
}

fn allows(rule: &Value, request: &RequestInfo) -> bool {
    let values = |key: &str| -> Vec<&str> {
        rule.get(key)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect()
    };
    let any =
        |key: &str, wanted: &str| values(key).iter().any(|value| *value == "*" || *value == wanted);
    if !any("verbs", &request.verb) {
        return false;
    }
    if !request.is_resource {
        return values("nonResourceURLs").iter().any(|url| match url.strip_suffix('*') {
            Some(prefix) => request.path.starts_with(prefix),
            None => *url == request.path,
        });
    }
    let any_sub = format!("*/{}", request.subresource);
    let names = values("resourceNames");
    any("apiGroups", &request.group)
        && (any("resources", &request.full_resource())
            || !request.subresource.is_empty() && values("resources").contains(&any_sub.as_str()))
        && (names.is_empty() || names.contains(&request.name.as_str()))
}
