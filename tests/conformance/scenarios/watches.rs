//! Lists and watches of ServiceAccounts and Pods, full and as metadata.

use http::{Request, StatusCode, header};
use http_body_util::BodyExt as _;
use kube::{Client, client::Body};
use serde_json::{Value, json};

use crate::fixture::{Fixture, NOTICED_WITHIN, Outcome};

const AS_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
const AS_OBJECT: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

pub(super) async fn the_pages_of_a_list_have_one_version(fixture: Fixture) -> Outcome {
    for name in ["a", "b", "c", "d"] {
        fixture.service_account(name).await?;
    }
    let path = format!("/api/v1/namespaces/{}/serviceaccounts", fixture.namespace());
    let first = get(&fixture, &format!("{path}?limit=2"), AS_LIST).await?;
    assert_eq!(
        (names(&first), &first["kind"]),
        (vec!["a", "b"], &json!("PartialObjectMetadataList"))
    );
    // 1.20 has no `remainingItemCount` in a list of metadata.
    let full = get(&fixture, &format!("{path}?limit=2"), "application/json").await?;
    assert_eq!(full["metadata"]["remainingItemCount"], 2);
    assert_eq!(first["items"][0]["kind"], "PartialObjectMetadata");
    fixture.delete_service_account("c").await?;
    fixture.service_account("e").await?;
    let token = first["metadata"]["continue"].as_str().ok_or("a continue token")?;
    let second = get(&fixture, &format!("{path}?limit=2&continue={token}"), AS_LIST).await?;
    assert_eq!(names(&second), ["c", "d"]);
    let version = &first["metadata"]["resourceVersion"];
    assert_eq!(&second["metadata"]["resourceVersion"], version);
    assert!(second["metadata"]["continue"].is_null());

    let whole = get(&fixture, &path, "application/json").await?;
    assert_eq!(
        (names(&whole), &whole["kind"]),
        (vec!["a", "b", "d", "e"], &json!("ServiceAccountList"))
    );
    assert!(whole["items"][0]["kind"].is_null());
    for (path, accept) in [(path.clone(), AS_OBJECT), (format!("{path}/a"), AS_LIST)] {
        let response = fixture.admin().send(request(&path, accept)?).await?;
        assert_eq!(response.status(), StatusCode::NOT_ACCEPTABLE, "{path}");
    }
    Ok(())
}

pub(super) async fn a_watch_delivers_additions_marks_and_deletions(fixture: Fixture) -> Outcome {
    let path = format!("/api/v1/namespaces/{}/pods", fixture.namespace());
    let list = get(&fixture, &path, AS_LIST).await?;
    let from = list["metadata"]["resourceVersion"].as_str().ok_or("a version")?;
    let since = format!("{path}?watch=true&resourceVersion={from}");
    let mut watch = Watch::open(&fixture, &since, AS_OBJECT).await?;
    let uid = fixture.pod_on("nowhere", "robot-0", "robot").await?;
    let added = watch.expect("ADDED").await?;
    assert_eq!((&added["metadata"]["uid"], &added["spec"]), (&json!(uid), &Value::Null));
    assert_eq!(added["kind"], "PartialObjectMetadata");

    let graceful = Request::delete(format!("{path}/robot-0")).body(Vec::new())?;
    fixture.admin().request::<Value>(graceful).await?;
    let marked = watch.expect("MODIFIED").await?;
    assert!(marked["metadata"]["deletionTimestamp"].is_string(), "{marked}");
    fixture.delete_pod("robot-0").await?;
    // The second request may change the grace period first.
    let mut gone = watch.next().await?;
    if gone["type"] == "MODIFIED" {
        gone = watch.next().await?;
    }
    assert_eq!(
        (&gone["type"], &gone["object"]["metadata"]["uid"]),
        (&json!("DELETED"), &json!(uid))
    );
    assert!(version(&gone["object"]) > version(&marked), "{gone}");

    // A second watch from the same version, of full objects, receives the same changes.
    let mut again = Watch::open(&fixture, &since, "application/json").await?;
    let added = again.expect("ADDED").await?;
    assert_eq!(added["spec"]["serviceAccountName"], "robot");
    again.expect("MODIFIED").await?;
    Ok(())
}

pub(super) async fn a_watch_without_a_version_starts_with_the_objects(fixture: Fixture) -> Outcome {
    fixture.service_account("robot").await?;
    let path = format!("/api/v1/namespaces/{}/serviceaccounts?watch=true", fixture.namespace());
    let mut watch = Watch::open(&fixture, &path, AS_OBJECT).await?;
    assert_eq!(watch.expect("ADDED").await?["metadata"]["name"], "robot");
    fixture.service_account("newcomer").await?;
    assert_eq!(watch.expect("ADDED").await?["metadata"]["name"], "newcomer");
    Ok(())
}

pub(super) async fn a_watch_ends_at_its_timeout_after_a_bookmark(fixture: Fixture) -> Outcome {
    let path = format!("/api/v1/namespaces/{}/pods", fixture.namespace());
    let list = get(&fixture, &path, AS_LIST).await?;
    let from = version(&list);
    let options = "allowWatchBookmarks=true&timeoutSeconds=5";
    let path = format!("{path}?watch=true&{options}&resourceVersion={from}");
    let mut watch = Watch::open(&fixture, &path, AS_OBJECT).await?;
    // kube-apiserver 1.20 sends no bookmark of the version from which the watch began.
    fixture.pod("robot-0", "robot").await?;
    watch.expect("ADDED").await?;
    let bookmark = watch.expect("BOOKMARK").await?;
    assert!(version(&bookmark) >= from, "{bookmark}");
    assert_eq!(bookmark["kind"], "PartialObjectMetadata");
    // kube-apiserver may send several bookmarks in the last two seconds.
    while let Some(event) = watch.try_next().await? {
        assert_eq!(event["type"], "BOOKMARK", "nothing else before a clean end");
    }
    Ok(())
}

pub(super) async fn an_expired_version_is_an_error_event(fixture: Fixture) -> Outcome {
    fixture.service_account("robot").await?;
    fixture.cluster().forget_versions().await?;
    let path = "/api/v1/serviceaccounts?watch=true&resourceVersion=1";
    let mut watch = Watch::open(&fixture, path, AS_OBJECT).await?;
    let error = watch.expect("ERROR").await?;
    assert_eq!((&error["code"], &error["kind"]), (&json!(410), &json!("Status")), "{error}");
    Ok(())
}

pub(super) async fn listing_and_watching_need_rights(fixture: Fixture) -> Outcome {
    fixture.service_account("robot").await?;
    let robot = fixture.cluster().client_for(&fixture.token("robot", &[]).await?);
    for (path, verb) in [("/api/v1/pods", "list"), ("/api/v1/pods?watch=true", "watch")] {
        let response = robot.send(request(path, "application/json")?).await?;
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        let status: Value =
            serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?;
        let expected = format!(
            "pods is forbidden: User {:?} cannot {verb} resource \"pods\" in API group \"\" at the \
             cluster scope",
            fixture.username("robot")
        );
        assert_eq!(status["message"], expected);
    }
    Ok(())
}

fn request(path: &str, accept: &str) -> Outcome<Request<Body>> {
    Ok(Request::get(path).header(header::ACCEPT, accept).body(Body::empty())?)
}

async fn get(fixture: &Fixture, path: &str, accept: &str) -> Outcome<Value> {
    let response = fixture.admin().send(request(path, accept)?).await?;
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    Ok(serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?)
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().into_iter().flatten();
    items.filter_map(|item| item["metadata"]["name"].as_str()).collect()
}

fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// An open watch.
struct Watch {
    body: Body,
    read: Vec<u8>,
    /// Keeps the connection.
    _client: Client,
}

impl Watch {
    async fn open(fixture: &Fixture, path: &str, accept: &str) -> Outcome<Self> {
        let client = fixture.admin();
        let response = client.send(request(path, accept)?).await?;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        Ok(Self { body: response.into_body(), read: Vec::new(), _client: client })
    }

    /// Returns the object of the next event, which is of this type.
    async fn expect(&mut self, event: &str) -> Outcome<Value> {
        let mut next = self.next().await?;
        assert_eq!(next["type"], event, "{next}");
        Ok(next["object"].take())
    }

    async fn next(&mut self) -> Outcome<Value> {
        self.try_next().await?.ok_or_else(|| "the watch ended".into())
    }

    async fn try_next(&mut self) -> Outcome<Option<Value>> {
        tokio::time::timeout(NOTICED_WITHIN, self.read_event()).await?
    }

    async fn read_event(&mut self) -> Outcome<Option<Value>> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return Ok(Some(serde_json::from_slice(&line)?));
            }
            match self.body.frame().await.transpose()? {
                Some(frame) => self.read.extend(frame.into_data().unwrap_or_default()),
                None => return Ok(None),
            }
        }
    }
}
