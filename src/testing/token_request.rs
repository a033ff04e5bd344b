//! `POST /api/v1/namespaces/{namespace}/serviceaccounts/{name}/token`

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    lock::lock,
    objects::{random_uuid, set, text},
    release::Release,
    state::{State, rfc3339},
    status::Status,
};

const GROUP: &str = "authentication.k8s.io";

/// Lifetime in seconds that kubelet requests by default (`WarnOnlyBoundTokenExpirationSeconds`).
const WARN_ONLY: u64 = 60 * 60 + 7;
/// Lifetime in seconds that the API server grants then (`ExpirationExtensionSeconds`).
const EXTENDED: u64 = 365 * 24 * 60 * 60;

/// The claims and the response of a valid request.
pub(super) struct Grant {
    pub(super) claims: Value,
    answer: Value,
}

impl State {
    pub(super) fn request_token(
        &self,
        namespace: &str,
        name: &str,
        request: Value,
    ) -> Result<Value, Status> {
        let Grant { claims, mut answer } = self.grant_token(namespace, name, request)?;
        let key = lock(&self.keys).signing();
        if let Some(status) = answer.get_mut("status") {
            set(status, "token", json!(key.sign(&key.header(), &claims)));
        }
        Ok(answer)
    }

    pub(super) fn grant_token(
        &self,
        namespace: &str,
        name: &str,
        request: Value,
    ) -> Result<Grant, Status> {
        let modern = self.release != Release::V1_20;
        let account = || {
            let found = lock(&self.objects).get("serviceaccounts", namespace, name).cloned();
            found.ok_or_else(|| Status::not_found("", "serviceaccounts", name))
        };
        // 1.20 validates the request before it looks up the ServiceAccount.
        let account = if modern { Some(account()?) } else { None }
            .map_or_else(|| lifetime(&request).and_then(|_| account()), Ok)?;
        let requested = lifetime(&request)?;

        let audiences = match request.pointer("/spec/audiences").and_then(Value::as_array) {
            Some(list) if !list.is_empty() => json!(list),
            _ => json!(self.api_audiences),
        };
        let bound = request.pointer("/spec/boundObjectRef").filter(|bound| !bound.is_null());
        let bound_claims = match bound {
            Some(bound) => self.bind(namespace, name, bound)?,
            None => json!({}),
        };

        let lifetime = self.max_token_lifetime.map_or(requested, |most| requested.min(most));
        // The transition to bound tokens: a year in `exp`, a warning after the requested lifetime.
        let to_api = audiences.as_array().is_some_and(|list| {
            list.iter().all(|audience| {
                audience.as_str().is_some_and(|one| self.api_audiences.iter().any(|api| api == one))
            })
        });
        let extended =
            lifetime == WARN_ONLY && bound_claims.get("pod").is_some() && (to_api || !modern);

        let now = self.now();
        let mut private = json!({
            "namespace": namespace,
            "serviceaccount": {"name": name, "uid": text(&account, "/metadata/uid")},
        });
        for (kind, reference) in bound_claims.as_object().into_iter().flatten() {
            set(&mut private, kind, reference.clone());
        }
        if extended {
            set(&mut private, "warnafter", json!(now.as_secs() + lifetime));
        }
        let mut claims = json!({
            "iss": self.issuer(),
            "sub": format!("system:serviceaccount:{namespace}:{name}"),
            "aud": audiences,
            "iat": now.as_secs(),
            "nbf": now.as_secs(),
            "exp": now.as_secs() + if extended { EXTENDED } else { lifetime },
            "kubernetes.io": private,
        });
        if modern {
            set(&mut claims, "jti", json!(random_uuid()));
        }
        let metadata = if modern {
            json!({"name": name, "namespace": namespace, "creationTimestamp": rfc3339(now)})
        } else {
            json!({"creationTimestamp": null})
        };
        let answer = json!({
            "kind": "TokenRequest",
            "apiVersion": format!("{GROUP}/v1"),
            "metadata": metadata,
            "spec": {
                "audiences": audiences,
                "expirationSeconds": lifetime,
                "boundObjectRef": bound.cloned().unwrap_or_default(),
            },
            "status": {"expirationTimestamp": rfc3339(now + Duration::from_secs(lifetime))},
        });
        Ok(Grant { claims, answer })
    }

    /// Returns the private claims for the object that the token is bound to.
    fn bind(&self, namespace: &str, service_account: &str, bound: &Value) -> Result<Value, Status> {
        let modern = self.release != Release::V1_20;
        let (api_version, kind, name) =
            (text(bound, "/apiVersion"), text(bound, "/kind"), text(bound, "/name"));
        let (plural, place) = match (api_version, kind) {
            ("v1", "Pod") => ("pods", namespace),
            ("v1", "Secret") => ("secrets", namespace),
            ("v1", "Node") if modern => ("nodes", ""),
            _ => {
                let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
                let message =
                    format!("cannot bind token to object of type {group}/{version}, Kind={kind}");
                return Err(Status::bad_request(message));
            }
        };
        let objects = lock(&self.objects);
        let object =
            objects.get(plural, place, name).ok_or_else(|| Status::not_found("", plural, name))?;
        if kind == "Pod" && text(object, "/spec/serviceAccountName") != service_account {
            let message = format!(
                "cannot bind token for serviceaccount {service_account:?} to pod running with \
                 different serviceaccount name."
            );
            return Err(Status::bad_request(message));
        }
        let (uid, wanted) = (text(object, "/metadata/uid"), text(bound, "/uid"));
        if !wanted.is_empty() && wanted != uid {
            let cause = format!(
                "the UID in the bound object reference ({wanted}) does not match the UID in \
                 record. The object might have been deleted and then recreated"
            );
            return Err(Status::conflict("", kind, name, &cause));
        }
        let mut claims = json!({});
        set(&mut claims, &kind.to_lowercase(), json!({"name": name, "uid": uid}));
        let node = text(object, "/spec/nodeName");
        if modern && kind == "Pod" && !node.is_empty() {
            let mut reference = json!({"name": node});
            if let Some(node) = objects.get("nodes", "", node) {
                set(&mut reference, "uid", json!(text(node, "/metadata/uid")));
            }
            set(&mut claims, "node", reference);
        }
        Ok(claims)
    }
}

/// Returns the requested lifetime in seconds, by default an hour.
fn lifetime(request: &Value) -> Result<u64, Status> {
    let asked = match request.pointer("/spec/expirationSeconds") {
        None | Some(Value::Null) => 3600,
        Some(value) => value.as_i64().ok_or_else(|| {
            Status::bad_request(
                "the object provided is unrecognized: spec.expirationSeconds must be a whole \
                 number",
            )
        })?,
    };
    let problem = match asked {
        ..600 => "may not specify a duration less than 10 minutes",
        4_294_967_297.. => "may not specify a duration larger than 2^32 seconds",
        _ => return Ok(asked.unsigned_abs()),
    };
    let problem = format!("Invalid value: {asked}: {problem}");
    Err(Status::invalid(
        GROUP,
        "TokenRequest",
        "",
        "spec.expirationSeconds",
        "FieldValueInvalid",
        &problem,
    ))
}
