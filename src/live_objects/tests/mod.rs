use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use serde_json::{Value, json};

use super::{
    Ended, LiveObjects, Liveness,
    ObjectKind::{Node, Pod, Secret, ServiceAccount},
    WatchPhase, WatchState,
};
use crate::{
    api_server::ApiServer,
    testing::{Cluster, Endpoint, Fault, ManualClock},
};

mod limits;
mod pods;

const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than a watch may be silent.
const BEYOND_SILENCE: Duration = Duration::from_secs(80);
const STALE: Duration = Duration::from_secs(120);

struct Fixture {
    cluster: Cluster,
    time: ManualClock,
    live: LiveObjects,
}

impl Fixture {
    /// A synced watch of a cluster with the ServiceAccount `robot` and the Pod `old`.
    async fn new() -> Self {
        let time = ManualClock::new();
        let cluster = Cluster::builder().clock(time.clock()).start().await.unwrap();
        cluster.create_service_account("shop", "robot");
        cluster.create_pod("shop", "old", "robot");
        let client = cluster.admin_client().unwrap();
        let live = LiveObjects::builder(client).clock(time.clock()).build().unwrap();
        let this = Self { cluster, time, live };
        this.live.synced().await;
        this.until("it watches", || this.all(|watch| watch.phase == WatchPhase::Watching)).await;
        this
    }

    /// While a watch pauses after its end, time passes as far as that pause; else it stands still,
    /// however slow this machine is.
    async fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let polling = async {
            while !condition() {
                tokio::task::yield_now().await;
                let is_watching = self.all(|watch| watch.phase == WatchPhase::Watching);
                let pause = self.time.next_wake().filter(|wake| *wake < Duration::from_secs(10));
                pause.filter(|_| !is_watching).iter().for_each(|pause| self.time.advance(*pause));
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, polling).await;
        assert!(in_time.is_ok(), "timed out waiting until {what}: {:#?}", self.live.state());
    }

    async fn until_pod(&self, name: &str, uid: &str, expected: Liveness) {
        let what = format!("{name} is {expected:?}");
        self.until(&what, || self.pod(name, uid) == expected).await;
    }

    async fn until_listed_again(&self, lists: u64) {
        self.until("all is listed again", || self.all(|watch| watch.lists > lists)).await;
    }

    fn pod(&self, name: &str, uid: &str) -> Liveness {
        self.live.liveness(Pod, Some("shop"), name, uid)
    }

    fn all(&self, condition: impl Fn(&WatchState) -> bool) -> bool {
        self.live.state().iter().all(condition)
    }

    fn watch_of(&self, resource: &str) -> WatchState {
        self.live.state().into_iter().find(|watch| watch.resource == resource).unwrap()
    }

    fn create_pod(&self, name: &str) -> String {
        self.cluster.create_pod("shop", name, "robot")
    }

    fn delete_pod(&self, name: &str) {
        assert!(self.cluster.delete_pod("shop", name));
    }
}

#[tokio::test]
async fn objects_are_live_until_they_are_deleted() {
    let fixture = Fixture::new().await;
    let robot = fixture.cluster.create_service_account("shop", "robot");
    let robot_is = || fixture.live.liveness(ServiceAccount, Some("shop"), "robot", &robot);
    let (old, new) = (fixture.create_pod("old"), fixture.create_pod("new"));
    assert_eq!((robot_is(), fixture.pod("old", &old)), (Liveness::Live, Liveness::Live));
    fixture.until_pod("new", &new, Liveness::Live).await;
    fixture.delete_pod("old");
    fixture.until_pod("old", &old, Liveness::Deleted).await;
    fixture.cluster.delete_service_account("shop", "robot");
    fixture.until("the account is deleted", || robot_is() == Liveness::Deleted).await;
    assert_eq!(fixture.pod("new", &new), Liveness::Live);
    assert_eq!(fixture.watch_of("pods").objects, 1);
}

#[tokio::test]
async fn subscribers_are_called_after_the_index_shows_the_deletion() {
    let fixture = Fixture::new().await;
    let (old, told) = (fixture.create_pod("old"), Arc::<Mutex<Vec<_>>>::default());
    let subscriber = {
        let (told, live) = (told.clone(), fixture.live.clone());
        move |ended: &Ended<'_>| {
            for uid in &ended.uids {
                let liveness = live.liveness(ended.kind, ended.namespace, "old", uid);
                told.lock().unwrap().push((ended.kind, uid.clone(), liveness));
            }
            true
        }
    };
    fixture.live.subscribe(Arc::new(subscriber));
    fixture.delete_pod("old");
    fixture.until("the subscriber is told", || !told.lock().unwrap().is_empty()).await;
    assert_eq!(*told.lock().unwrap(), [(Pod, old, Liveness::Deleted)]);
}

#[tokio::test]
async fn an_object_made_again_is_another_one() {
    let fixture = Fixture::new().await;
    let first = fixture.create_pod("old");
    fixture.delete_pod("old");
    let second = fixture.create_pod("old");
    fixture.until_pod("old", &second, Liveness::Live).await;
    assert_eq!(fixture.pod("old", &first), Liveness::Deleted);
}

#[tokio::test]
async fn a_pod_in_its_grace_period_is_being_deleted() {
    let fixture = Fixture::new().await;
    let uid = fixture.cluster.create_pod_on_node("shop", "web", "robot", "node-1");
    fixture.until_pod("web", &uid, Liveness::Live).await;
    let request = Request::delete("/api/v1/namespaces/shop/pods/web").body(Vec::new()).unwrap();
    let answer: Value =
        fixture.cluster.admin_client().unwrap().request(request.map(Into::into)).await.unwrap();
    let since = answer["metadata"]["deletionTimestamp"].as_str().unwrap();
    let since = SystemTime::from(since.parse::<jiff::Timestamp>().unwrap());
    fixture.until_pod("web", &uid, Liveness::Deleting { since }).await;
}

#[tokio::test]
async fn what_is_not_watched_is_unknown() {
    let fixture = Fixture::new().await;
    let uid = fixture.cluster.create_secret("shop", "secret");
    let fresh = fixture.cluster.create_pod("ops", "old", "robot");
    let in_ops = || fixture.live.liveness(Pod, Some("ops"), "old", &fresh);
    fixture.until("the new Pod is seen", || in_ops() == Liveness::Live).await;
    for (kind, namespace, name, uid, expected) in [
        (Secret, Some("shop"), "secret", &uid, Liveness::NotWatched),
        (Node, None, "node-1", &uid, Liveness::NotWatched),
        (Pod, Some("shop"), "other", &uid, Liveness::Unseen),
        (Pod, Some("dev"), "old", &fresh, Liveness::Unseen),
        (Pod, None, "old", &fresh, Liveness::Unseen),
    ] {
        assert_eq!(fixture.live.liveness(kind, namespace, name, uid), expected);
    }
}

#[tokio::test]
async fn chosen_namespaces_and_kinds_are_watched() {
    let cluster = Cluster::start().await.unwrap();
    let shop = cluster.create_pod_on_node("shop", "web", "robot", "node-1");
    let ops = cluster.create_pod("ops", "web", "robot");
    let dev = cluster.create_pod("dev", "web", "robot");
    let secret = cluster.create_secret("ops", "secret");
    let live = LiveObjects::builder(cluster.admin_client().unwrap())
        .namespaces(["shop", "ops", "shop"])
        .watch_secrets()
        .watch_nodes()
        .build()
        .unwrap();
    tokio::time::timeout(PATIENCE, live.synced()).await.unwrap();
    assert_eq!(live.state().len(), 7, "three kinds in two namespaces, and the nodes");
    assert_eq!(live.liveness(Pod, Some("shop"), "web", &shop), Liveness::Live);
    assert_eq!(live.liveness(Pod, Some("ops"), "web", &ops), Liveness::Live);
    assert_eq!(live.liveness(Pod, Some("dev"), "web", &dev), Liveness::NotWatched);
    assert_eq!(live.liveness(Pod, Some("shop"), "web", &ops), Liveness::Unseen);
    assert_eq!(live.liveness(Secret, Some("ops"), "secret", &secret), Liveness::Live);
    assert_eq!(live.liveness(Node, None, "node-1", &secret), Liveness::Unseen);
}

#[tokio::test]
async fn dropping_the_last_handle_ends_the_watches() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.cluster.in_flight(Endpoint::Watch), 2, "one connection a kind");
    let Fixture { cluster, live, .. } = fixture;
    let clone = live.clone();
    drop(live);
    assert_eq!(cluster.in_flight(Endpoint::Watch), 2);
    drop(clone);
    let ended = async {
        while cluster.in_flight(Endpoint::Watch) > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
}

#[tokio::test]
async fn many_objects_are_listed_in_pages() {
    let fixture = Fixture::new().await;
    let uids: Vec<_> = (0..1100).map(|n| fixture.create_pod(&format!("job-{n}"))).collect();
    let client = fixture.cluster.admin_client().unwrap();
    let lists = fixture.cluster.calls(Endpoint::List);
    let live = LiveObjects::builder(client).clock(fixture.time.clock()).build().unwrap();
    tokio::time::timeout(PATIENCE, live.synced()).await.unwrap();
    assert_eq!(fixture.cluster.calls(Endpoint::List) - lists, 4, "three of Pods, one of accounts");
    let is_live = |(n, uid): (usize, &String)| {
        live.liveness(Pod, Some("shop"), &format!("job-{n}"), uid) == Liveness::Live
    };
    assert!(uids.iter().enumerate().all(is_live));
    assert_eq!(live.state()[1].objects, 1101);
}

#[tokio::test]
async fn a_deletion_during_an_outage_is_seen_afterwards() {
    let fixture = Fixture::new().await;
    let old = fixture.create_pod("old");
    let told = Arc::<Mutex<Vec<_>>>::default();
    let sink = told.clone();
    let subscriber = move |ended: &Ended<'_>| {
        sink.lock().unwrap().extend(ended.uids.iter().cloned());
        true
    };
    fixture.live.subscribe(Arc::new(subscriber));
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
    let told = Arc::<Mutex<Vec<_>>>::default();
    let sink = told.clone();
    let subscriber = move |ended: &Ended<'_>| {
        sink.lock().unwrap().extend(ended.uids.iter().cloned());
        true
    };
    fixture.live.subscribe(Arc::new(subscriber));
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
