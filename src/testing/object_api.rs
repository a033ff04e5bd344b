//! Create, get and delete of objects.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    lock::lock,
    objects::{Kind, random_uuid, set, text},
    state::{State, rfc3339},
    status::Status,
};

impl State {
    pub(super) fn create(
        &self,
        kind: &Kind,
        namespace: &str,
        mut object: Value,
    ) -> Result<Value, Status> {
        let given = text(&object, "/metadata/namespace");
        if kind.namespaced && !given.is_empty() && given != namespace {
            let message = "the namespace of the provided object does not match the namespace sent \
                           on the request";
            return Err(Status::bad_request(message));
        }
        let (name, prefix) =
            (text(&object, "/metadata/name"), text(&object, "/metadata/generateName"));
        let name = match (name, prefix) {
            ("", "") => {
                let problem = "Required value: name or generateName is required";
                return Err(invalid_name(kind, "", "FieldValueRequired", problem));
            }
            ("", prefix) => format!("{prefix}{}", random_uuid().get(..5).unwrap_or_default()),
            (name, _) => name.to_owned(),
        };
        let mut objects = lock(&self.objects);
        if kind.namespaced && objects.get("namespaces", "", namespace).is_none() {
            return Err(Status::not_found("", "namespaces", namespace));
        }
        // RBAC objects may have any name that fits into a path.
        if kind.group.is_empty() && !is_dns_subdomain(&name) {
            let problem = format!("Invalid value: {name:?}: {NOT_A_SUBDOMAIN}");
            return Err(invalid_name(kind, &name, "FieldValueInvalid", &problem));
        }
        if objects.list(kind.plural, namespace).any(|object| text(object, "/metadata/name") == name)
        {
            return Err(Status::already_exists(kind.group, kind.plural, &name));
        }
        if let Some(metadata) = object.get_mut("metadata") {
            set(metadata, "name", json!(name));
        }
        match kind.name {
            "Pod" => {
                set(&mut object, "status", json!({"phase": "Pending", "qosClass": "BestEffort"}))
            }
            "Namespace" => {
                set(&mut object, "spec", json!({"finalizers": ["kubernetes"]}));
                set(&mut object, "status", json!({"phase": "Active"}));
            }
            "Secret" if object.get("type").is_none() => set(&mut object, "type", json!("Opaque")),
            _ => {}
        }
        Ok(objects.put(kind, namespace, object, rfc3339(self.now())))
    }

    pub(super) fn read(
        &self,
        kind: &'static Kind,
        namespace: &str,
        name: &str,
    ) -> Result<Value, Status> {
        lock(&self.objects)
            .get(kind.plural, namespace, name)
            .cloned()
            .ok_or_else(|| not_found(kind, name))
    }

    /// Deletes an object. A Pod on a node with a grace period and an object with finalizers are
    /// only marked for deletion; without kubelet and controllers they stay marked.
    pub(super) fn delete(
        &self,
        kind: &'static Kind,
        namespace: &str,
        name: &str,
        options: &Value,
    ) -> Result<Value, Status> {
        let mut objects = lock(&self.objects);
        let object = objects
            .get(kind.plural, namespace, name)
            .cloned()
            .ok_or_else(|| not_found(kind, name))?;
        let (uid, wanted) = (text(&object, "/metadata/uid"), text(options, "/preconditions/uid"));
        if !wanted.is_empty() && wanted != uid {
            let cause = format!(
                "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). \
                 The object might have been deleted and then recreated"
            );
            return Err(Status::conflict(kind.group, kind.name, name, &cause));
        }
        let on_a_node = kind.name == "Pod" && !text(&object, "/spec/nodeName").is_empty();
        let grace = options.get("gracePeriodSeconds").and_then(Value::as_u64);
        let grace = if on_a_node { grace.unwrap_or(30) } else { 0 };
        let finalizers = object.pointer("/metadata/finalizers").and_then(Value::as_array);
        let is_delayed = grace > 0 || finalizers.is_some_and(|finalizers| !finalizers.is_empty());

        let mut answer = object.clone();
        let marked = !text(&object, "/metadata/deletionTimestamp").is_empty();
        if let Some(metadata) = answer.get_mut("metadata")
            && (kind.name == "Pod" || is_delayed)
            && !(marked && is_delayed)
        {
            let at = self.now() + Duration::from_secs(grace);
            set(metadata, "deletionTimestamp", json!(rfc3339(at)));
            set(metadata, "deletionGracePeriodSeconds", json!(grace));
        }
        if is_delayed {
            return Ok(objects.update(kind.plural, &answer));
        }
        objects.remove(kind.plural, namespace, name);
        if kind.name == "Namespace" {
            objects.remove_namespaced(name);
        }
        // The response is the object for Pods and ServiceAccounts, a `Status` for others.
        if matches!(kind.name, "Pod" | "ServiceAccount") {
            return Ok(answer);
        }
        let mut details = json!({"name": name, "kind": kind.plural, "uid": uid});
        if !kind.group.is_empty() {
            set(&mut details, "group", json!(kind.group));
        }
        Ok(json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": details,
        }))
    }
}

fn not_found(kind: &Kind, name: &str) -> Status {
    Status::not_found(kind.group, kind.plural, name)
}

fn invalid_name(kind: &Kind, name: &str, reason: &str, problem: &str) -> Status {
    Status::invalid(kind.group, kind.name, name, "metadata.name", reason, problem)
}

const NOT_A_SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case \
                               alphanumeric characters, '-' or '.', and must start and end with \
                               an alphanumeric character (e.g. 'example.com', regex used for \
                               validation is \
                               '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

fn is_dns_subdomain(name: &str) -> bool {
    let label = |label: &str| {
        let ends = |end: Option<char>| {
            end.is_some_and(|end| end.is_ascii_lowercase() || end.is_ascii_digit())
        };
        ends(label.chars().next())
            && ends(label.chars().last())
            && label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::is_dns_subdomain;

    #[test]
    fn names_are_dns_subdomains() {
        for good in ["a", "a-b.c", "0", "kube-root-ca.crt"] {
            assert!(is_dns_subdomain(good), "{good}");
        }
        for bad in ["", "A", "a_b", "-a", "a-", "a..b", ".a", "a:b", &"a".repeat(254)] {
            assert!(!is_dns_subdomain(bad), "{bad}");
        }
    }
}
