//! `GET` of a list with `watch=true`: a stream of changes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{
    history::Delivery,
    list_options::ListOptions,
    lock::lock,
    objects::{Kind, set},
    representation::Representation,
    state::State,
    status::Status,
};

/// How often a watch sends a bookmark (`defaultBookmarkFrequency`), and how long before its end.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);

/// Duration of a watch that asks for none (`--min-request-timeout`).
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1800);

/// Chunks that are produced ahead of the client.
const AHEAD: usize = 16;

impl State {
    /// Opens a watch, and returns the chunks of its body. It ends when the receiver is dropped.
    pub(super) fn watch(
        self: &Arc<Self>,
        kind: &'static Kind,
        namespace: &str,
        options: &ListOptions,
        form: Representation,
    ) -> Result<mpsc::Receiver<Bytes>, Status> {
        let mut ready = Vec::new();
        let mut event = |event: &str, object: Value| -> Result<(), Status> {
            ready.push(line(event, &form.object(object)?));
            Ok(())
        };
        let mut objects = lock(&self.objects);
        let current = objects.revision;
        let asked = options.resource_version.unwrap_or_default();
        // Checks the representation before the first event.
        form.object(json!({}))?;
        let after = if options.send_initial_events.unwrap_or(asked == 0) {
            if asked > current {
                return Err(Status::too_large_resource_version(asked, current));
            }
            for object in objects.list(kind.plural, namespace) {
                event("ADDED", object.clone())?;
            }
            if options.send_initial_events.is_some() && options.bookmarks {
                let mut bookmark = bookmark(kind, current);
                if let Some(metadata) = bookmark.get_mut("metadata") {
                    let end = json!({"k8s.io/initial-events-end": "true"});
                    set(metadata, "annotations", end);
                }
                event("BOOKMARK", bookmark)?;
            }
            current
        } else if asked == 0 {
            current
        } else {
            asked
        };
        let (chunks, receiver) = mpsc::channel(AHEAD);
        let changes = if objects.history.is_known_since(after) {
            Some(objects.history.subscribe(kind.plural, namespace, after))
        } else {
            // Reported in the stream, as kube-apiserver does once the request is valid.
            let message = format!("too old resource version: {after} ({current})");
            ready.push(line("ERROR", &Status::expired(message).to_json()));
            None
        };
        drop(objects);
        let watch = Watch {
            state: self.clone(),
            kind,
            form,
            bookmarks: options.bookmarks,
            ends: self.clock.monotonic() + options.timeout.unwrap_or(DEFAULT_TIMEOUT),
        };
        tokio::spawn(async move {
            let chunks = &chunks;
            tokio::select! {
                () = chunks.closed() => {}
                () = watch.run(ready, changes, chunks) => {}
            }
        });
        Ok(receiver)
    }
}

struct Watch {
    state: Arc<State>,
    kind: &'static Kind,
    form: Representation,
    bookmarks: bool,
    ends: Instant,
}

impl Watch {
    async fn run(
        self,
        ready: Vec<Bytes>,
        changes: Option<mpsc::UnboundedReceiver<Delivery>>,
        chunks: &mpsc::Sender<Bytes>,
    ) {
        // Sending fails only if the client is gone, which ends the watch.
        for chunk in ready {
            let _ = chunks.send(chunk).await;
        }
        let Some(mut changes) = changes else { return };
        let mut bookmark_at = self.next_bookmark();
        loop {
            let wake_at = if self.bookmarks { bookmark_at.min(self.ends) } else { self.ends };
            let pause = wake_at.saturating_duration_since(self.state.clock.monotonic());
            tokio::select! {
                biased;
                delivery = changes.recv() => match delivery {
                    Some(Delivery::Change(change)) => {
                        let (event, object) = change.event();
                        // The representation was checked when the watch began.
                        let Ok(object) = self.form.object(object) else { return };
                        let _ = chunks.send(line(event, &object)).await;
                    }
                    Some(Delivery::Stall) => std::future::pending().await,
                    None => return,
                },
                () = self.state.clock.sleep(pause) => {
                    if self.state.clock.monotonic() >= self.ends {
                        return;
                    }
                    if let Some(chunk) = self.bookmark(&changes) {
                        let _ = chunks.send(chunk).await;
                        bookmark_at = self.next_bookmark();
                    }
                }
            }
        }
    }

    /// Returns a bookmark, unless a change must be delivered first.
    fn bookmark(&self, changes: &mpsc::UnboundedReceiver<Delivery>) -> Option<Bytes> {
        // Changes arrive under this lock.
        let objects = lock(&self.state.objects);
        let bookmark = self.form.object(bookmark(self.kind, objects.revision)).ok()?;
        changes.is_empty().then(|| line("BOOKMARK", &bookmark))
    }

    /// As `cacheWatcher.nextBookmarkTime` of `k8s.io/apiserver`.
    fn next_bookmark(&self) -> Instant {
        let now = self.state.clock.monotonic();
        let regular = now + BOOKMARK_EVERY;
        match self.ends.checked_sub(BOOKMARK_BEFORE_END) {
            Some(last) if last > now => regular.min(last),
            _ => regular,
        }
    }
}

/// Returns an object that has a resource version only.
fn bookmark(kind: &Kind, revision: u64) -> Value {
    json!({
        "kind": kind.name, "apiVersion": kind.api_version(),
        "metadata": {"resourceVersion": revision.to_string(), "creationTimestamp": null},
    })
}

fn line(event: &str, object: &Value) -> Bytes {
    format!("{}\n", json!({"type": event, "object": object})).into()
}
