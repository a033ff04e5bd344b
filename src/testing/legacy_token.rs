//! Verification of legacy tokens: stored in a Secret, without expiry.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{jws_parser, lock::lock, objects::text, release::Release, state::State, user::User};

pub(super) const ISSUER: &str = "kubernetes/serviceaccount";

impl State {
    /// Checks the claims of a legacy token. Clusters up to 1.23 created one for every
    /// ServiceAccount.
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
        if jws_parser::decode_standard(text(&stored, "/data/token")).as_deref()
            != Some(token.as_bytes())
        {
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
            Some(_) => Ok(User::service_account(namespace, name, uid, BTreeMap::new())),
        }
    }
}
