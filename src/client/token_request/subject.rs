//! The ServiceAccount to request a token for: as configured, completed from this Pod's own token.

use std::{borrow::Cow, fmt, path::PathBuf, sync::Arc};

use serde_json::Value;

use crate::{
    api_types::ObjectRef,
    client::{
        TokenError, TokenErrorKind,
        projected::{Read, in_background},
    },
    identity::Username,
    inspect::UnverifiedToken,
};

/// An object that a token is bound to: once it is deleted, the token is invalid (`boundObjectRef`).
///
/// ```
/// use tower_kube_auth::client::BoundObjectRef;
///
/// let pod = BoundObjectRef::pod("checkout-7d9f").uid("a3c1");
/// let secret = BoundObjectRef::secret("session");
/// let node = BoundObjectRef::node("worker-1"); // Kubernetes 1.29 and newer
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct BoundObjectRef {
    kind: &'static str,
    name: String,
    uid: Option<String>,
}

impl BoundObjectRef {
    /// A Pod in the ServiceAccount's namespace, which must run as that ServiceAccount.
    pub fn pod(name: impl Into<String>) -> Self {
        Self { kind: "Pod", name: name.into(), uid: None }
    }

    /// A Secret in the ServiceAccount's namespace.
    pub fn secret(name: impl Into<String>) -> Self {
        Self { kind: "Secret", name: name.into(), uid: None }
    }

    /// A node.
    pub fn node(name: impl Into<String>) -> Self {
        Self { kind: "Node", name: name.into(), uid: None }
    }

    /// Sets the object's uid: the API server then rejects another object of the same name. Defaults
    /// to the uid of the object that has the name.
    pub fn uid(mut self, uid: impl Into<String>) -> Self {
        self.uid = Some(uid.into());
        self
    }

    pub(super) fn to_object_ref(&self) -> ObjectRef<'_> {
        ObjectRef { api_version: "v1", kind: self.kind, name: &self.name, uid: self.uid.as_deref() }
    }
}

/// The configured part of the subject.
#[derive(Clone)]
pub(super) struct Subject {
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) binding: Binding,
    /// The folder with this Pod's own token.
    pub(super) mount: PathBuf,
    pub(super) read: Arc<Read>,
}

#[derive(Clone, Debug)]
pub(super) enum Binding {
    None,
    Object(BoundObjectRef),
    OwnPod,
}

/// The complete subject.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) account: Username,
    pub(super) bound: Option<BoundObjectRef>,
}

impl Subject {
    pub(super) async fn resolve(&self) -> Result<Resolved, TokenError> {
        let own_pod = matches!(self.binding, Binding::OwnPod);
        let own = if own_pod || self.name.is_none() || self.namespace.is_none() {
            Some(self.own_claims().await)
        } else {
            None
        };
        let claims = own.as_ref().and_then(|own| own.as_ref().ok());
        let account = claims.and_then(UnverifiedToken::service_account);

        let name = self.name.as_deref().or(account.map(|account| account.name));
        let name = name.ok_or_else(|| self.unknown("service_account(…)", own.as_ref()))?;
        let namespace = match self.namespace.as_deref().or(account.map(|account| account.namespace))
        {
            Some(namespace) => Cow::Borrowed(namespace),
            None => Cow::Owned(self.own_namespace().await?),
        };
        let bound = match &self.binding {
            Binding::None => None,
            Binding::Object(object) => Some(object.clone()),
            Binding::OwnPod => {
                let pod = claims.and_then(own_pod_of);
                Some(pod.ok_or_else(|| {
                    self.unknown("bound_to(BoundObjectRef::pod(…))", own.as_ref())
                })?)
            }
        };
        // Checked, because they go into a URL path and may come from an unverified file.
        let account = Username::new(&namespace, name)
            .ok_or_else(|| self.unknown("service_account(…)", own.as_ref()))?;
        Ok(Resolved { account, bound })
    }

    async fn own_claims(&self) -> Result<UnverifiedToken, TokenError> {
        let path = self.mount.join("token");
        let token = in_background(&self.read, &path).await?;
        UnverifiedToken::decode(&token).map_err(|error| {
            let message =
                format!("{}: this is not a ServiceAccount token: {error}", path.display());
            TokenError::new(TokenErrorKind::Malformed, message).with_source(error)
        })
    }

    async fn own_namespace(&self) -> Result<String, TokenError> {
        let read = in_background(&self.read, &self.mount.join("namespace")).await;
        read.map(|namespace| namespace.as_str().to_owned()).map_err(|error| {
            let message = format!(
                "TokenRequest: this Pod's own namespace is not known: call .namespace(…) [{error}]"
            );
            TokenError::new(TokenErrorKind::UnknownServiceAccount, message).with_source(error)
        })
    }

    fn unknown(
        &self,
        option: &str,
        own: Option<&Result<UnverifiedToken, TokenError>>,
    ) -> TokenError {
        let kind = TokenErrorKind::UnknownServiceAccount;
        let message = format!(
            "TokenRequest: this Pod's own token, {}, does not name its ServiceAccount: call .{option}",
            self.mount.join("token").display()
        );
        match own {
            Some(Err(error)) => {
                TokenError::new(kind, format!("{message} [{error}]")).with_source(error.clone())
            }
            _ => TokenError::new(kind, message),
        }
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("namespace", &self.namespace)
            .field("name", &self.name)
            .field("binding", &self.binding)
            .field("mount", &self.mount)
            .finish_non_exhaustive()
    }
}

fn own_pod_of(claims: &UnverifiedToken) -> Option<BoundObjectRef> {
    let pod = claims.claims().get("kubernetes.io")?.get("pod")?;
    let text = |key| pod.get(key).and_then(Value::as_str);
    let reference = BoundObjectRef::pod(text("name")?);
    Some(match text("uid") {
        Some(uid) => reference.uid(uid),
        None => reference,
    })
}
