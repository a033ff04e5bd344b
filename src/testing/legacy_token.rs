//! Tokens out of a Secret, as clusters up to 1.23 made one for every ServiceAccount: they never end by themselves.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    Cluster, ClusterError, Release,
    authentication::User,
    jws,
    objects::{Kind, text},
    state::{State, lock, rfc3339},
    token_rules::service_account,
};

pub(super) const ISSUER: &str = "kubernetes/serviceaccount";

/// Legacy tokens.
impl Cluster {
    /// A legacy token: made once, kept in the Secret `{service_account}-token`, for ever valid and for no audience.
    ///
    /// # Errors
    /// If there is no such ServiceAccount.
    pub fn legacy_token(
        &self,
        namespace: &str,
        service_account: &str,
    ) -> Result<String, ClusterError> {
        let account = self.state.grant_token(namespace, service_account, json!({}))?.claims;
        let uid = account.pointer("/kubernetes.io/serviceaccount/uid").cloned().unwrap_or_default();
        let secret = format!("{service_account}-token");
        let claims = json!({
            "iss": ISSUER,
            "sub": format!("system:serviceaccount:{namespace}:{service_account}"),
            "kubernetes.io/serviceaccount/namespace": namespace,
            "kubernetes.io/serviceaccount/secret.name": secret,
            "kubernetes.io/serviceaccount/service-account.name": service_account,
            "kubernetes.io/serviceaccount/service-account.uid": uid,
        });
        let token = self.mint(&claims);
        let object = json!({
            "metadata": {
                "name": secret,
                "annotations": {
                    "kubernetes.io/service-account.name": service_account,
                    "kubernetes.io/service-account.uid": uid,
                },
            },
            "type": "kubernetes.io/service-account-token",
            "data": {
                "token": STANDARD.encode(&token),
                "ca.crt": STANDARD.encode(self.ca_pem()),
                "namespace": STANDARD.encode(namespace),
            },
        });
        if let Some(kind) = Kind::find("", "v1", "secrets") {
            lock(&self.state.objects).put(kind, namespace, object, rfc3339(self.state.now()));
        }
        Ok(token)
    }
}

impl State {
    /// The rules for tokens out of a Secret, as clusters up to 1.23 made them for every ServiceAccount.
    pub(super) fn check_legacy(&self, token: &str, claims: &Value) -> Result<User, String> {
        let claim = |name: &str| {
            let value = claims.get(format!("kubernetes.io/serviceaccount/{name}"));
            value.and_then(Value::as_str).unwrap_or_default()
        };
        let modern = self.release != Release::V1_20;
        let (namespace, secret) = (claim("namespace"), claim("secret.name"));
        let (name, uid) = (claim("service-account.name"), claim("service-account.uid"));
        let subject = text(claims, "/sub");
        let needed = [
            ("sub", subject),
            ("namespace", namespace),
            ("secretName", secret),
            ("serviceAccountName", name),
            ("serviceAccountUID", uid),
        ];
        if let Some((missing, _)) = needed.iter().find(|(_, value)| value.is_empty()) {
            return Err(format!("{missing} claim is missing"));
        }
        if subject != format!("system:serviceaccount:{namespace}:{name}") {
            return Err("sub claim is invalid".to_owned());
        }
        let invalidated = if modern {
            "service account token has been invalidated"
        } else {
            "Token has been invalidated"
        };
        let found = self
            .find("secrets", namespace, secret)
            .unwrap_or_default()
            .filter(|secret| !secret.marked);
        if found.is_none() {
            return Err(invalidated.to_owned());
        }
        let stored =
            lock(&self.objects).get("secrets", namespace, secret).cloned().unwrap_or_default();
        if jws::decode_standard(text(&stored, "/data/token")).as_deref() != Some(token.as_bytes()) {
            let message = "service account token does not match server's copy";
            return Err(
                if modern { message } else { "Token does not match server's copy" }.to_owned()
            );
        }
        let title = if modern { "service account" } else { "ServiceAccount" };
        match self.find("serviceaccounts", namespace, name)? {
            None => Err(format!("serviceaccounts {name:?} not found")),
            Some(found) if found.marked => {
                Err(format!("{title} {namespace}/{name} has been deleted"))
            }
            Some(found) if found.uid != uid => {
                Err(format!("{title} UID ({}) does not match claim ({uid})", found.uid))
            }
            Some(_) => Ok(service_account(namespace, name, uid, BTreeMap::new())),
        }
    }
}
