use std::time::Duration;

use http_body_util::BodyExt as _;

use super::{super::*, *};

/// Upper bound for the wait of a test that is about to fail.
const PATIENCE: Duration = Duration::from_secs(20);

/// An open watch.
struct Watch {
    body: kube::client::Body,
    read: Vec<u8>,
}

impl Watch {
    async fn open(cluster: &Cluster, path: &str) -> Self {
        let request = get(path).map(Into::into);
        let response = cluster.admin_client().unwrap().send(request).await.unwrap();
        assert_eq!(response.status(), 200);
        Self { body: response.into_body(), read: Vec::new() }
    }

    /// Returns the next event, or `None` at a clean end. Fails if there is none for a while.
    async fn next(&mut self) -> Option<Value> {
        let next = tokio::time::timeout(PATIENCE, self.try_next()).await;
        next.expect("an event or the end").unwrap()
    }

    async fn try_next(&mut self) -> Result<Option<Value>, kube::Error> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return Ok(Some(serde_json::from_slice(&line).unwrap()));
            }
            match self.body.frame().await.transpose()? {
                Some(frame) => self.read.extend_from_slice(&frame.into_data().unwrap()),
                None => return Ok(None),
            }
        }
    }

    /// Returns the type and the name of the next event.
    async fn expect(&mut self) -> (String, String) {
        let event = self.next().await.expect("an event");
        let text = |pointer| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        (text("/type").to_owned(), text("/object/metadata/name").to_owned())
    }
}

fn event(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), name.to_owned())
}

#[tokio::test]
async fn a_watch_starts_with_the_objects_and_follows_their_changes() {
    let cluster = cluster().await;
    let mut all = Watch::open(&cluster, "/api/v1/serviceaccounts?watch=true").await;
    assert_eq!(all.expect().await, event("ADDED", "verifier"));
    assert_eq!(all.expect().await, event("ADDED", "robot"));
    let path = "/api/v1/namespaces/team-b/serviceaccounts?watch=true";
    let mut in_namespace = Watch::open(&cluster, path).await;
    cluster.create_service_account("team-a", "new");
    cluster.create_pod("team-b", "pod", "robot");
    cluster.create_service_account("team-b", "other");
    assert_eq!(all.expect().await, event("ADDED", "new"));
    assert_eq!(all.expect().await, event("ADDED", "other"));
    assert_eq!(in_namespace.expect().await, event("ADDED", "other"));
    let before = cluster.resource_version();
    cluster.delete_service_account("team-a", "new");
    let deleted = all.next().await.unwrap();
    assert_eq!(
        (&deleted["type"], &deleted["object"]["kind"]),
        (&json!("DELETED"), &json!("ServiceAccount"))
    );
    assert_eq!(
        deleted["object"]["metadata"]["resourceVersion"],
        (before + 1).to_string(),
        "the version of the deletion"
    );
}

#[tokio::test]
async fn a_watch_from_a_version_delivers_the_changes_since() {
    let cluster = cluster().await;
    cluster.create_pod_on_node("team-a", "p", "robot", "n");
    let from = cluster.resource_version();
    let pods: kube::Api<k8s_openapi::api::core::v1::Pod> =
        kube::Api::namespaced(cluster.admin_client().unwrap(), "team-a");
    for _ in 0..2 {
        // The second one changes nothing.
        pods.delete("p", &Default::default()).await.unwrap();
    }
    cluster.delete_pod("team-a", "p");
    cluster.create_pod("team-a", "p", "robot");
    let path = format!("/api/v1/pods?watch=true&resourceVersion={from}");
    let mut watch = Watch::open(&cluster, &path).await;
    let marked = watch.next().await.unwrap();
    assert_eq!(marked["type"], "MODIFIED");
    assert!(marked["object"]["metadata"]["deletionTimestamp"].is_string(), "{marked}");
    assert_eq!(watch.expect().await, event("DELETED", "p"));
    assert_eq!(watch.expect().await, event("ADDED", "p"));
}

#[tokio::test]
async fn deleting_a_namespace_deletes_what_is_in_it() {
    let cluster = cluster().await;
    let from = cluster.resource_version();
    let path = format!("/api/v1/serviceaccounts?watch=true&resourceVersion={from}");
    let mut watch = Watch::open(&cluster, &path).await;
    let namespaces: kube::Api<k8s_openapi::api::core::v1::Namespace> =
        kube::Api::all(cluster.admin_client().unwrap());
    namespaces.delete("team-a", &Default::default()).await.unwrap();
    assert_eq!(watch.expect().await, event("DELETED", "robot"));
}

#[tokio::test]
async fn initial_events_end_with_an_annotated_bookmark() {
    let cluster = cluster().await;
    let path = "/api/v1/namespaces/team-a/serviceaccounts?watch=true&allowWatchBookmarks=true\
                &sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    let mut watch = Watch::open(&cluster, path).await;
    assert_eq!(watch.expect().await, event("ADDED", "robot"));
    let end = watch.next().await.unwrap();
    let metadata = json!({
        "annotations": {"k8s.io/initial-events-end": "true"}, "creationTimestamp": null,
        "resourceVersion": cluster.resource_version().to_string(),
    });
    assert_eq!((&end["type"], &end["object"]["metadata"]), (&json!("BOOKMARK"), &metadata));
    cluster.create_service_account("team-a", "new");
    assert_eq!(watch.expect().await, event("ADDED", "new"));
}

#[tokio::test]
async fn bookmarks_arrive_every_minute_and_before_the_timeout() {
    let time = ManualClock::new();
    let cluster = with(Cluster::builder().clock(time.clock())).await;
    let from = cluster.resource_version();
    let path = format!(
        "/api/v1/pods?watch=true&allowWatchBookmarks=true&timeoutSeconds=90&resourceVersion={from}"
    );
    let mut watch = Watch::open(&cluster, &path).await;
    cluster.create_secret("team-a", "other-kind");
    for passing in [60, 28] {
        advance(&time, passing).await;
        let bookmark = watch.next().await.unwrap();
        assert_eq!(bookmark["type"], "BOOKMARK");
        let version = cluster.resource_version().to_string();
        assert_eq!(bookmark["object"]["metadata"]["resourceVersion"], version);
    }
    advance(&time, 2).await;
    assert_eq!(watch.next().await, None, "a clean end");
}

/// Advances the clock once the watch sleeps.
async fn advance(time: &ManualClock, seconds: u64) {
    while time.next_wake().is_none() {
        tokio::task::yield_now().await;
    }
    time.advance(Duration::from_secs(seconds));
}

#[tokio::test]
async fn after_a_compaction_an_old_version_is_an_error_event() {
    let cluster = cluster().await;
    let from = cluster.resource_version();
    let path = format!("/api/v1/pods?watch=true&resourceVersion={from}");
    let mut open = Watch::open(&cluster, &path).await;
    cluster.create_pod("team-a", "p", "robot");
    cluster.compact(cluster.resource_version());
    assert_eq!(open.expect().await, event("ADDED", "p"), "an open watch is not affected");
    let mut late = Watch::open(&cluster, &path).await;
    let error = late.next().await.unwrap();
    assert_eq!(
        (&error["type"], &error["object"]["code"], &error["object"]["reason"]),
        (&json!("ERROR"), &json!(410), &json!("Expired"))
    );
    assert_eq!(late.next().await, None);
}

#[tokio::test]
async fn a_stalled_watch_stays_open_and_later_ones_work() {
    let time = ManualClock::new();
    let cluster = with(Cluster::builder().clock(time.clock())).await;
    let path =
        "/api/v1/namespaces/team-b/pods?watch=true&allowWatchBookmarks=true&timeoutSeconds=9";
    let mut stalled = Watch::open(&cluster, path).await;
    cluster.stall_watches();
    cluster.create_pod("team-b", "p", "robot");
    let mut later = Watch::open(&cluster, path).await;
    assert_eq!(later.expect().await, event("ADDED", "p"));
    advance(&time, 3600).await;
    assert_eq!(later.next().await, None);
    tokio::select! {
        biased;
        event = stalled.next() => panic!("{event:?}"),
        () = cluster.wait_for_calls(Endpoint::Watch, 2) => {}
    }
    assert_eq!(cluster.in_flight(Endpoint::Watch), 1);
    drop(stalled);
    while cluster.in_flight(Endpoint::Watch) > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn closed_connections_end_watches_with_an_error() {
    let cluster = cluster().await;
    let mut watch = Watch::open(&cluster, "/api/v1/pods?watch=true").await;
    cluster.come_up().await.unwrap();
    assert!(watch.try_next().await.is_err());
    cluster.set_fault(Endpoint::Watch, Fault::CutConnection);
    let mut cut = Watch::open(&cluster, "/api/v1/serviceaccounts?watch=true").await;
    assert_eq!(cut.expect().await, event("ADDED", "verifier"));
    assert!(cut.try_next().await.is_err());
}

#[tokio::test]
async fn restored_data_is_older_than_the_versions_that_clients_know() {
    let cluster = cluster().await;
    let backup = cluster.resource_version();
    let uid = cluster.create_service_account("team-a", "robot");
    cluster.delete_service_account("team-a", "robot");
    cluster.create_service_account("team-a", "late");
    let known = cluster.resource_version();
    cluster.restore(backup).await.unwrap();
    assert_eq!(cluster.resource_version(), backup);
    let path = format!("/api/v1/serviceaccounts?watch=true&resourceVersion={known}");
    let mut watch = Watch::open(&cluster, &path).await;
    for name in ["one", "two", "three"] {
        cluster.create_service_account("team-a", name);
    }
    // Changes up to the version that the client knows are not delivered.
    assert_eq!(watch.expect().await, event("ADDED", "three"));
    assert_eq!(cluster.create_service_account("team-a", "robot"), uid, "it exists again");
    cluster.compact(backup + 1);
    assert!(cluster.restore(backup).await.is_err());
}
