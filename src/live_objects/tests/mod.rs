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

mod failures;
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

    /// Returns the UIDs of the objects that subscribers are told of from now on.
    fn subscribe(&self) -> Arc<Mutex<Vec<String>>> {
        let told = Arc::<Mutex<Vec<_>>>::default();
        let sink = told.clone();
        let subscriber = move |ended: &Ended<'_>| {
            sink.lock().unwrap().extend(ended.uids.iter().cloned());
            true
        };
        self.live.subscribe(Arc::new(subscriber));
        told
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
