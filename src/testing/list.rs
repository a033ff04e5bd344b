//! `GET` of a list: a consistent snapshot, in pages.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    list_options::ListOptions,
    lock::lock,
    objects::{Kind, set, text},
    state::State,
    status::Status,
};

impl State {
    pub(super) fn list(
        &self,
        kind: &Kind,
        namespace: &str,
        options: &ListOptions,
    ) -> Result<Value, Status> {
        let objects = lock(&self.objects);
        let current = objects.revision;
        let (revision, after) = match (options.continue_token.as_str(), options.resource_version) {
            ("", None | Some(0)) => (current, String::new()),
            ("", Some(asked)) if asked > current => {
                return Err(Status::too_large_resource_version(asked, current));
            }
            // A limit with a version means exactly that version, for compatibility.
            ("", Some(asked)) if options.is_exact || options.limit.is_some() => {
                (asked, String::new())
            }
            ("", Some(_)) => (current, String::new()),
            (_, Some(1..)) => {
                let message = "resourceVersion: Forbidden: specifying resource version is not \
                               allowed when using continue";
                return Err(Status::invalid_list_options(message));
            }
            (token, _) => decode(token)?,
        };
        let found = objects.list_as_of(kind.plural, namespace, revision).ok_or_else(|| {
            Status::expired(if after.is_empty() {
                format!("The resourceVersion for the provided list is too old: {revision}")
            } else {
                CONTINUE_EXPIRED.to_owned()
            })
        })?;
        let rest: Vec<&Value> =
            found.into_iter().filter(|object| after.is_empty() || key(object) > after).collect();
        // Any version is served from the watch cache, which returns everything.
        let is_cached = options.continue_token.is_empty() && options.resource_version == Some(0);
        let limit = options.limit.filter(|_| !is_cached).unwrap_or(usize::MAX);
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if let Some(last) = limit.checked_sub(1).and_then(|last| rest.get(last))
            && rest.len() > limit
        {
            set(&mut metadata, "continue", json!(encode(revision, &key(last))));
            set(&mut metadata, "remainingItemCount", json!(rest.len() - limit));
        }
        let mut items: Vec<Value> = rest.into_iter().take(limit).cloned().collect();
        // Items of a list have no kind of their own.
        for item in items.iter_mut().filter_map(Value::as_object_mut) {
            item.remove("kind");
            item.remove("apiVersion");
        }
        Ok(json!({
            "kind": format!("{}List", kind.name),
            "apiVersion": kind.api_version(),
            "metadata": metadata,
            "items": items,
        }))
    }
}

const CONTINUE_EXPIRED: &str = "The provided continue parameter is too old to display a consistent \
                                list result. You must start a new list without the continue \
                                parameter.";

/// Orders objects. A name cannot contain a character below `/` other than `-` and `.`, and a
/// control character sorts before those.
fn key(object: &Value) -> String {
    format!("{}\u{1}{}", text(object, "/metadata/namespace"), text(object, "/metadata/name"))
}

fn encode(revision: u64, last: &str) -> String {
    let token = json!({"v": "meta.k8s.io/v1", "rv": revision, "start": last});
    URL_SAFE_NO_PAD.encode(token.to_string())
}

/// Returns the revision and the key of the last object of the page before.
fn decode(token: &str) -> Result<(u64, String), Status> {
    let invalid = || Status::bad_request("continue key is not valid");
    let json = URL_SAFE_NO_PAD.decode(token).map_err(|_| invalid())?;
    let token: Value = serde_json::from_slice(&json).map_err(|_| invalid())?;
    let revision = token.get("rv").and_then(Value::as_u64).ok_or_else(invalid)?;
    Ok((revision, text(&token, "/start").to_owned()))
}
