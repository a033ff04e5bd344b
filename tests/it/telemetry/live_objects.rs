//! The watch of the objects that tokens are bound to, and what it cannot decide.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use axum::http::StatusCode;
use serde_json::json;
use tower_kube_auth::{
    LiveObjects, LocalReviewVerifier, VerifierExt,
    live_objects::{LiveObjectsBuilder, WatchPhase},
    testing::{Cluster, Endpoint, Fault},
};

use super::once;
use crate::support::{Fixture, Recorder, until};

const RESOURCES: [&str; 4] = ["serviceaccounts", "pods", "secrets", "nodes"];
const SIGN_OF_LIFE: &str = "live_objects_last_sign_of_life_timestamp_seconds";
const INCONCLUSIVE: &str = "local_review_inconclusive_total";
/// Longer than a watch may be silent.
const BEYOND_SILENCE: Duration = Duration::from_secs(80);

fn builder(fixture: &Fixture) -> LiveObjectsBuilder {
    let client = fixture.cluster.admin_client().unwrap();
    LiveObjects::builder(client).clock(fixture.clock.clock())
}

/// Watches all kinds of object, and waits until they are listed.
async fn watch_all(fixture: &Fixture) -> LiveObjects {
    let live_objects = builder(fixture).watch_secrets().watch_nodes().build().unwrap();
    live_objects.synced().await;
    until("it watches", async || is_watching(&live_objects)).await;
    live_objects
}

fn is_watching(live_objects: &LiveObjects) -> bool {
    live_objects.state().iter().all(|watch| watch.phase == WatchPhase::Watching)
}

/// Returns one number for each resource, of a metric with the label `resource` only.
fn each(number: f64) -> BTreeMap<String, f64> {
    RESOURCES.map(|resource| (resource.to_owned(), number)).into()
}

fn labelled(metric: &str, resource: &str, label: &str) -> String {
    format!("{metric}{{resource=\"{resource}\",{label}}}")
}

/// Returns the values of all series of a metric.
fn values(recorder: &Recorder, metric: &str) -> Vec<f64> {
    let series = recorder.series().into_iter();
    let of_metric = series.filter(|(name, _)| name.split('{').next() == Some(metric));
    of_metric.map(|(_, value)| value).collect()
}

/// Waits until `condition` holds, and moves the clock on to the end of each pause. Time stands still
/// while bytes are in transit.
async fn in_time(fixture: &Fixture, what: &str, condition: impl Fn() -> bool) {
    until(what, async || {
        let pause = fixture.clock.next_wake().filter(|wake| *wake < Duration::from_secs(10));
        fixture.clock.advance(pause.unwrap_or_default());
        condition()
    })
    .await;
}

#[tokio::test]
async fn objects_and_events_count_by_resource_and_end_with_their_watch() {
    let recorder = Recorder::new();
    let _recording = recorder.install();
    let fixture = Fixture::start().await;
    fixture.cluster.create_pod_on_node("shop", "web-0", "checkout", "worker-1");
    let live_objects = watch_all(&fixture).await;
    let objects = || recorder.by_label("live_objects");
    let events = || recorder.by_label("live_objects_events_total");
    let state = live_objects.state();
    let numbers = state.iter().map(|it| (it.resource.to_owned(), it.objects as f64));
    let expected: BTreeMap<_, _> = numbers.filter(|(_, number)| *number > 0.0).collect();
    assert_eq!((objects(), expected["pods"], events()), (expected, 1.0, [].into()));

    fixture.cluster.create_pod("shop", "web-1", "checkout");
    until("the Pod is seen", async || events() == once("pods")).await;
    assert_eq!(objects()["pods"], 2.0);
    fixture.cluster.delete_pod("shop", "web-1");
    until("the deletion is seen", async || events()["pods"] == 2.0).await;
    assert_eq!(objects()["pods"], 1.0);

    let in_two = builder(&fixture).namespaces(["shop", "ops"]).build().unwrap();
    in_two.synced().await;
    assert_eq!(objects()["pods"], 2.0, "of both watches");
    drop(in_two);
    until("its watch has ended", async || objects()["pods"] == 1.0).await;
    drop(live_objects);
    until("the watch has ended", async || objects().is_empty()).await;
    assert_eq!(values(&recorder, "live_objects_watches"), [0.0; 12]);
    assert_eq!(recorder.by_label(SIGN_OF_LIFE), each(f64::INFINITY));
}

#[tokio::test]
async fn lists_count_by_what_made_them_necessary() {
    let recorder = Recorder::new();
    let _recording = recorder.install();
    let fixture = Fixture::start().await;
    let live_objects = watch_all(&fixture).await;
    let lists = |resource: &str, reason: &str| {
        let label = format!("reason=\"{reason}\"");
        recorder.value(&labelled("live_objects_lists_total", resource, &label))
    };
    let all = |reason: &str| RESOURCES.iter().all(|resource| lists(resource, reason) >= 1.0);
    assert!(all("start"));
    assert_eq!(values(&recorder, "live_objects_lists_total"), [1.0; 4]);
    fixture.cluster.stall_watches();
    fixture.clock.advance(BEYOND_SILENCE);
    in_time(&fixture, "silent watches are replaced", || all("silence")).await;
    fixture.cluster.go_down().await.unwrap();
    fixture.cluster.come_up().await.unwrap();
    in_time(&fixture, "cut connections are replaced", || all("failure")).await;
    in_time(&fixture, "it watches again", || is_watching(&live_objects)).await;
    let gone = Fault::Status { code: 410, retry_after: None };
    fixture.cluster.set_fault(Endpoint::Watch, gone);
    fixture.cluster.stall_watches();
    fixture.clock.advance(BEYOND_SILENCE);
    in_time(&fixture, "the version has expired", || all("expired")).await;
    for watch in live_objects.state() {
        let reasons = ["start", "silence", "failure", "expired"];
        let counted = reasons.map(|reason| lists(watch.resource, reason));
        assert_eq!(counted.iter().sum::<f64>(), watch.lists as f64, "{counted:?}");
        assert_eq!(counted[0], 1.0);
    }
}

#[tokio::test]
async fn a_broken_watch_is_counted_and_its_last_sign_of_life_stands_still() {
    let recorder = Recorder::new();
    let _recording = recorder.install();
    let fixture = Fixture::start().await;
    let _live_objects = watch_all(&fixture).await;
    let phases = |resource: &str| {
        ["listing", "watching", "broken"].map(|phase| {
            let label = format!("phase=\"{phase}\"");
            recorder.value(&labelled("live_objects_watches", resource, &label))
        })
    };
    let is = |expected: [f64; 3]| RESOURCES.iter().all(|resource| phases(resource) == expected);
    let synced = recorder.by_label(SIGN_OF_LIFE);
    assert_eq!((synced.clone(), is([0.0, 1.0, 0.0])), (each(unix(&fixture)), true));

    fixture.cluster.set_fault(Endpoint::List, Fault::Status { code: 500, retry_after: None });
    fixture.cluster.stall_watches();
    fixture.clock.advance(BEYOND_SILENCE);
    in_time(&fixture, "it is broken", || is([0.0, 0.0, 1.0])).await;
    assert_eq!(recorder.by_label(SIGN_OF_LIFE), synced);
    fixture.cluster.clear_faults();
    in_time(&fixture, "it watches", || is([0.0, 1.0, 0.0])).await;
    let recovered = recorder.by_label(SIGN_OF_LIFE);
    assert!(recovered.values().all(|at| *at >= unix(&fixture) - 10.0), "{recovered:?}");
}

#[tokio::test]
async fn a_watch_without_its_right_is_broken_and_has_given_no_sign_of_life() {
    let recorder = Recorder::new();
    let _recording = recorder.install();
    let fixture = Fixture::start().await;
    let accounts =
        json!({ "apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["list", "watch"] });
    fixture.cluster.grant(Cluster::VERIFIER, &accounts);
    let live_objects = LiveObjects::builder(fixture.client()).clock(fixture.clock.clock());
    let _live_objects = live_objects.build().unwrap();
    assert_eq!(values(&recorder, SIGN_OF_LIFE), [0.0, 0.0], "from the start");
    let broken = labelled("live_objects_watches", "pods", r#"phase="broken""#);
    until("Pods are forbidden", async || recorder.value(&broken) == 1.0).await;
    until("accounts are listed", async || recorder.by_label(SIGN_OF_LIFE).len() == 1).await;
    let watched = [("serviceaccounts".to_owned(), unix(&fixture))];
    assert_eq!(recorder.by_label(SIGN_OF_LIFE), watched.into());
}

#[tokio::test]
async fn a_token_whose_objects_were_not_seen_counts_once_as_inconclusive() {
    let recorder = Recorder::new();
    let _recording = recorder.install();
    let fixture = Fixture::start().await;
    let live_objects = watch_all(&fixture).await;
    let jwks = fixture.jwks().dangerous_accept_legacy_tokens().build().unwrap();
    jwks.refresh().await.unwrap();
    let local = LocalReviewVerifier::new(jwks, live_objects.clone());
    let service = fixture.service(local.or_when_inconclusive(fixture.review()));
    assert_eq!(service.get(&fixture.token()).await.status, StatusCode::OK);
    assert_eq!(recorder.by_label(INCONCLUSIVE), [].into());

    fixture.cluster.stall_watches();
    fixture.cluster.create_service_account("shop", "basket");
    fixture.cluster.create_pod("shop", "web-0", "checkout");
    fixture.cluster.create_secret("shop", "anchor");
    fixture.cluster.create_pod_on_node("shop", "other-0", "checkout", "worker-1");
    let of = |account| fixture.cluster.token("shop", account).audience("orders");
    let tokens = [
        of("basket"),
        of("checkout").bound_to_pod("web-0"),
        of("checkout").bound_to_secret("anchor"),
        of("checkout").bound_to_node("worker-1"),
    ]
    .map(|token| token.issue().unwrap());
    for token in &tokens {
        for _ in 0..2 {
            assert_eq!(service.get(token).await.status, StatusCode::OK);
        }
    }
    let legacy = fixture.cluster.legacy_token("shop", "checkout").unwrap();
    service.get(&legacy).await;
    let reasons = [
        "service_account_not_seen",
        "pod_not_seen",
        "secret_not_seen",
        "node_not_seen",
        "unknown_form",
    ];
    let expected = reasons.map(|reason| (reason.to_owned(), 1.0));
    assert_eq!(recorder.by_label(INCONCLUSIVE), expected.into());
}

fn unix(fixture: &Fixture) -> f64 {
    let now = fixture.clock.clock().wall();
    now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64()
}
