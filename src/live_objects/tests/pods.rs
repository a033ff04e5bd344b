//! Labels and owners of Pods.

use serde_json::{Value, json};

use super::*;

async fn watching(cluster: &Cluster) -> LiveObjects {
    let builder = LiveObjects::builder(cluster.admin_client().unwrap());
    let live = builder.namespaces(["shop", "ops"]).keep_labels().build().unwrap();
    tokio::time::timeout(PATIENCE, live.synced()).await.unwrap();
    live
}

async fn create(cluster: &Cluster, metadata: Value) -> String {
    let pod = json!({"metadata": metadata, "spec": {"serviceAccountName": "robot"}});
    let request = Request::post("/api/v1/namespaces/shop/pods").body(pod.to_string().into());
    let client = cluster.admin_client().unwrap();
    let created: Value = client.request(request.unwrap()).await.unwrap();
    created["metadata"]["uid"].as_str().unwrap().to_owned()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let polling = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, polling).await.is_ok(), "timed out waiting for {what}");
}

#[tokio::test]
async fn labels_and_owners_of_a_pod_are_kept_until_it_is_deleted() {
    let cluster = Cluster::start().await.unwrap();
    let listed = cluster.create_pod("shop", "listed", "robot");
    let other = cluster.create_pod("ops", "other", "robot");
    let live = watching(&cluster).await;
    let bare = live.pod(&listed).unwrap();
    assert_eq!((bare.labels().len(), bare.owner_references().len()), (0, 0));
    assert!(live.pod(&other).is_some(), "of the second namespace");

    let owners = json!([
        {"apiVersion": "v1", "kind": "Node", "name": "node-1", "uid": "n"},
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "r",
         "controller": true, "blockOwnerDeletion": true},
    ]);
    let labels = json!({"team": "sh\u{f6}p", "app": "web", "empty": ""});
    let metadata = json!({"name": "web-0", "labels": labels, "ownerReferences": owners});
    let web = create(&cluster, metadata).await;
    until("the new Pod", || live.pod(&web).is_some()).await;
    let pod = live.pod(&web).unwrap();
    assert_eq!(
        pod.labels().collect::<Vec<_>>(),
        [("app", "web"), ("empty", ""), ("team", "sh\u{f6}p")]
    );
    assert_eq!(
        [pod.label("app"), pod.label("empty"), pod.label("ap")],
        [Some("web"), Some(""), None]
    );
    let owners: Vec<_> = pod.owner_references().iter().map(|owner| &*owner.name).collect();
    assert_eq!(owners, ["node-1", "web"]);
    let controller = pod.controller().unwrap();
    assert_eq!((&*controller.api_version, &*controller.kind), ("apps/v1", "ReplicaSet"));
    assert_eq!((&*controller.uid, controller.controller), ("r", true));

    cluster.delete_pod("shop", "web-0");
    until("the deletion", || live.pod(&web).is_none()).await;
    assert!(live.pod(&listed).is_some());
    // The handle of a Pod outlives it.
    assert_eq!(pod.label("app"), Some("web"));
}

#[tokio::test]
async fn nothing_is_kept_of_a_pod_that_a_new_list_does_not_contain() {
    let cluster = Cluster::start().await.unwrap();
    let [gone, replaced] =
        ["gone", "replaced"].map(|name| cluster.create_pod("shop", name, "robot"));
    let live = watching(&cluster).await;
    cluster.go_down().await.unwrap();
    cluster.delete_pod("shop", "gone");
    cluster.delete_pod("shop", "replaced");
    let successor = cluster.create_pod("shop", "replaced", "robot");
    assert!(live.pod(&gone).is_some() && live.pod(&replaced).is_some(), "nobody can know better");
    cluster.come_up().await.unwrap();
    until("the successor", || live.pod(&successor).is_some()).await;
    until("the deletion", || live.pod(&gone).is_none()).await;
    assert!(live.pod(&replaced).is_none());
}

#[tokio::test]
async fn without_the_option_nothing_is_kept() {
    let cluster = Cluster::start().await.unwrap();
    let pod = cluster.create_pod("shop", "web-0", "robot");
    let live = LiveObjects::builder(cluster.admin_client().unwrap()).build().unwrap();
    tokio::time::timeout(PATIENCE, live.synced()).await.unwrap();
    assert_eq!(live.pod(&pod), None);
}

#[tokio::test]
async fn labels_that_are_no_labels_break_the_watch_and_are_named() {
    let fixture = Fixture::new().await;
    let client = fixture.cluster.admin_client().unwrap();
    let list = json!({"kind": "PodList", "metadata": {"resourceVersion": "7"}, "items": [
        {"metadata": {"name": "web", "uid": "u", "labels": {"app": 7}}},
    ]});
    fixture.cluster.set_fault(Endpoint::List, Fault::Body(list.to_string()));
    let live = LiveObjects::builder(client).keep_labels().build().unwrap();
    let is_broken = || live.state()[1].phase == WatchPhase::Broken;
    until("the watch to be broken", is_broken).await;
    let failure = live.state()[1].last_failure.clone().unwrap();
    assert!(failure.contains("a Pod's labels are no labels"), "{failure}");
}

#[tokio::test]
async fn labels_or_owners_that_are_too_large_are_not_kept() {
    let cluster = Cluster::start().await.unwrap();
    cluster.create_service_account("shop", "robot");
    let live = watching(&cluster).await;
    let owner = |name: &str| json!([{"apiVersion": "v1", "kind": "A", "name": name, "uid": "a"}]);
    let many: serde_json::Map<_, _> =
        (0..200).map(|n| (format!("key-{n}"), json!("x".repeat(100)))).collect();
    let (few, short, long) = (json!({"app": "web"}), owner("a"), owner(&"<".repeat(17_000)));
    for (name, labels, owners, kept) in [
        ("both", &few, &short, (1, 1)),
        ("owners", &json!(many), &short, (0, 1)),
        ("labels", &few, &long, (1, 0)),
        ("none", &json!(many), &long, (0, 0)),
    ] {
        let metadata = json!({"name": name, "labels": labels, "ownerReferences": owners});
        let uid = create(&cluster, metadata).await;
        until(name, || live.pod(&uid).is_some()).await;
        let pod = live.pod(&uid).unwrap();
        assert_eq!((pod.labels().len(), pod.owner_references().len()), kept, "{name}");
    }
    let state = live.state();
    assert!(state.iter().all(|watch| watch.last_failure.is_none()), "{state:#?}");
}
