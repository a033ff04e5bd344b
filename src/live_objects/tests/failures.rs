//! What becomes of a watch, and of the objects, when something fails.

use super::*;

#[tokio::test]
async fn a_deletion_during_an_outage_is_seen_afterwards() {
    let fixture = Fixture::new().await;
    let old = fixture.create_pod("old");
    let told = fixture.subscribe();
    fixture.cluster.go_down().await.unwrap();
    fixture.until("it is broken", || fixture.all(|it| it.phase == WatchPhase::Broken)).await;
    assert!(fixture.watch_of("pods").last_failure.unwrap().contains("watching pods"));
    assert_eq!(fixture.pod("old", &old), Liveness::Live, "nobody can know better");
    fixture.delete_pod("old");
    let new = fixture.create_pod("new");
    fixture.cluster.come_up().await.unwrap();
    fixture.until_pod("new", &new, Liveness::Live).await;
    assert_eq!(fixture.pod("old", &old), Liveness::Deleted);
    assert_eq!(*told.lock().unwrap(), [old]);
    fixture.until("it watches", || fixture.all(|it| it.phase == WatchPhase::Watching)).await;
}

#[tokio::test]
async fn an_object_that_was_made_again_during_an_outage_is_reported_as_deleted() {
    let fixture = Fixture::new().await;
    let old = fixture.create_pod("old");
    let told = fixture.subscribe();
    fixture.cluster.go_down().await.unwrap();
    fixture.delete_pod("old");
    let successor = fixture.create_pod("old");
    fixture.cluster.come_up().await.unwrap();
    fixture.until_pod("old", &successor, Liveness::Live).await;
    assert_eq!(fixture.pod("old", &old), Liveness::Deleted);
    fixture.until("the subscriber is told", || !told.lock().unwrap().is_empty()).await;
    assert_eq!(*told.lock().unwrap(), [old]);
}

#[tokio::test]
async fn a_half_open_connection_is_replaced_and_is_not_current() {
    let fixture = Fixture::new().await;
    let old = fixture.create_pod("old");
    fixture.cluster.stall_watches();
    fixture.delete_pod("old");
    assert!(fixture.live.is_current(STALE));
    fixture.time.advance(BEYOND_SILENCE);
    assert!(!fixture.live.is_current(BEYOND_SILENCE - Duration::from_secs(1)));
    fixture.until_pod("old", &old, Liveness::Deleted).await;
    fixture.until_listed_again(1).await;
    assert!(fixture.live.is_current(Duration::from_secs(10)));
    assert!(fixture.all(|watch| watch.last_failure.is_none()), "a silence is no failure");
}

#[tokio::test]
async fn bookmarks_are_signs_of_life_and_a_watch_goes_on_after_its_end() {
    let fixture = Fixture::new().await;
    for second in 1..600 {
        fixture.time.advance(Duration::from_secs(1));
        // The API server sends its last bookmark two seconds before the end.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let is_current = || fixture.live.is_current(Duration::from_secs(65));
        fixture.until(&format!("it is current after {second} s"), is_current).await;
    }
    fixture.until("two watches a kind", || fixture.cluster.calls(Endpoint::Watch) >= 4).await;
    assert!(fixture.all(|watch| watch.lists == 1 && watch.last_failure.is_none()));
    let new = fixture.create_pod("new");
    fixture.until_pod("new", &new, Liveness::Live).await;
}

#[tokio::test]
async fn a_forgotten_version_leads_to_a_new_list() {
    let in_stream = json!({"type": "ERROR", "object": {"kind": "Status", "code": 410}});
    for fault in
        [Fault::Status { code: 410, retry_after: None }, Fault::Body(format!("{in_stream}\n"))]
    {
        let fixture = Fixture::new().await;
        let old = fixture.create_pod("old");
        fixture.cluster.go_down().await.unwrap();
        fixture.delete_pod("old");
        fixture.cluster.set_fault_times(Endpoint::Watch, fault, 2);
        fixture.cluster.come_up().await.unwrap();
        fixture.until_listed_again(2).await;
        assert_eq!(fixture.pod("old", &old), Liveness::Deleted);
        let new = fixture.create_pod("new");
        fixture.until_pod("new", &new, Liveness::Live).await;
    }
}

#[tokio::test]
async fn a_restored_store_is_listed_again() {
    let fixture = Fixture::new().await;
    let old = fixture.create_pod("old");
    let version = fixture.cluster.resource_version();
    let lost = fixture.create_pod("lost");
    fixture.until_pod("lost", &lost, Liveness::Live).await;
    fixture.delete_pod("old");
    fixture.until_pod("old", &old, Liveness::Deleted).await;
    fixture.cluster.restore(version).await.unwrap();
    // The version that the watch had reached exists again, with another history.
    let new: Vec<_> = (0..5).map(|n| fixture.create_pod(&format!("new-{n}"))).collect();
    fixture.until_listed_again(1).await;
    assert_eq!(fixture.pod("lost", &lost), Liveness::Deleted);
    assert_eq!(fixture.pod("old", &old), Liveness::Live);
    for (n, uid) in new.iter().enumerate() {
        assert_eq!(fixture.pod(&format!("new-{n}"), uid), Liveness::Live);
    }
}

#[tokio::test]
async fn a_missing_right_on_one_kind_is_named_and_stops_no_other() {
    let time = ManualClock::new();
    let cluster = Cluster::builder().clock(time.clock()).start().await.unwrap();
    let robot = cluster.create_service_account("shop", "robot");
    let rule =
        |resource| json!({"apiGroups": [""], "resources": [resource], "verbs": ["list", "watch"]});
    cluster.grant(Cluster::VERIFIER, &rule("serviceaccounts"));
    let client = cluster.kube_client().unwrap();
    let live = LiveObjects::builder(client).clock(time.clock()).build().unwrap();
    let fixture = Fixture { cluster, time, live };
    fixture
        .until("pods are forbidden", || fixture.watch_of("pods").phase == WatchPhase::Broken)
        .await;
    let failure = fixture.watch_of("pods").last_failure.unwrap();
    assert!(failure.contains("the verbs `list` and `watch` on `pods`"), "{failure}");
    let robot_is = || fixture.live.liveness(ServiceAccount, Some("shop"), "robot", &robot);
    fixture.until("accounts are watched", || robot_is() == Liveness::Live).await;
    assert!(!fixture.live.is_current(STALE), "Pods are not known");
    fixture.cluster.grant(Cluster::VERIFIER, &rule("pods"));
    fixture.until("all is current", || fixture.live.is_current(STALE)).await;
}

#[tokio::test]
async fn broken_answers_lead_to_a_new_list() {
    let cut = json!({"type": "ADDED", "object": {"metadata": {"resourceVersion": "x"}}});
    for fault in [
        Fault::BrokenJson,
        Fault::EmptyBody,
        Fault::HugeBody,
        Fault::CutConnection,
        Fault::Body(format!("{cut}\n")),
        Fault::Status { code: 500, retry_after: None },
        Fault::Status { code: 429, retry_after: Some(2) },
    ] {
        for endpoint in [Endpoint::List, Endpoint::Watch] {
            let fixture = Fixture::new().await;
            let old = fixture.create_pod("old");
            fixture.cluster.go_down().await.unwrap();
            fixture.delete_pod("old");
            fixture.cluster.set_fault_times(endpoint, fault.clone(), 2);
            fixture.cluster.come_up().await.unwrap();
            fixture.until_pod("old", &old, Liveness::Deleted).await;
            let new = fixture.create_pod("new");
            fixture.until_pod("new", &new, Liveness::Live).await;
        }
    }
}

#[tokio::test]
async fn a_server_that_ends_each_watch_at_once_is_asked_less_and_less() {
    let time = ManualClock::new();
    let watches = Arc::new(AtomicU64::new(0));
    let counted = watches.clone();
    let server = ApiServer::from_service(tower::service_fn(move |request: Request<Bytes>| {
        let is_watch = request.uri().query().unwrap().contains("watch=true");
        counted.fetch_add(is_watch.into(), Ordering::Relaxed);
        let list = r#"{"kind": "PodList", "metadata": {"resourceVersion": "7"}, "items": null}"#;
        let body = Full::<Bytes>::from(if is_watch { "" } else { list });
        std::future::ready(Ok::<_, std::convert::Infallible>(Response::new(body)))
    }));
    let live = LiveObjects::builder(server).namespaces(["shop"]).clock(time.clock());
    let _live = live.build().unwrap();
    let began = time.clock().monotonic();
    while time.clock().monotonic() - began < Duration::from_secs(600) {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        time.advance(time.next_wake().unwrap());
    }
    let watches = watches.load(Ordering::Relaxed);
    assert!((20..=100).contains(&watches), "{watches} watches of two kinds in ten minutes");
}
