//! Legacy tokens in a Secret.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::testing::{
    cluster::Cluster, error::ClusterError, legacy_token::ISSUER, lock::lock, objects::Kind,
    state::rfc3339,
};

/// Legacy tokens.
impl Cluster {
    /// Creates a legacy token in the Secret `{service_account}-token`, without expiry and audience.
    ///
    /// # Errors
    /// If the ServiceAccount does not exist.
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
