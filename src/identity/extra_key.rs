//! The keys of `UserInfo.extra` under which kube-apiserver reports what a token is bound to
//! (`k8s.io/apiserver`, `authentication/serviceaccount`).

pub(crate) const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
pub(crate) const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
pub(crate) const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
pub(crate) const NODE_UID: &str = "authentication.kubernetes.io/node-uid";
pub(crate) const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

pub(crate) const ALL: [&str; 5] = [POD_NAME, POD_UID, NODE_NAME, NODE_UID, CREDENTIAL_ID];
