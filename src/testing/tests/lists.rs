use super::{super::*, *};

const AS_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
const AS_OBJECT: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

async fn list(cluster: &Cluster, path: &str) -> Result<Value, kube::Error> {
    let mut config = cluster.kube_config_for(cluster.admin_token());
    // A 504 would be retried for minutes.
    config.default_retry = false;
    kube::Client::try_from(config).unwrap().request(get(path)).await
}

async fn code(cluster: &Cluster, path: &str) -> (u16, String) {
    match list(cluster, path).await {
        Err(kube::Error::Api(status)) => (status.code, status.reason),
        other => panic!("not an error of the API: {other:?}"),
    }
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

fn accepting(path: &str, accept: &str) -> http::Request<Vec<u8>> {
    let request = http::Request::get(path).header(http::header::ACCEPT, accept);
    request.body(Vec::new()).unwrap()
}

#[tokio::test]
async fn the_pages_of_a_list_are_one_snapshot() {
    let cluster = cluster().await;
    for name in ["a", "b", "c", "d"] {
        cluster.create_pod("team-b", name, "robot");
    }
    let path = "/api/v1/namespaces/team-b/pods?limit=2";
    let first = list(&cluster, path).await.unwrap();
    assert_eq!(
        (names(&first), &first["metadata"]["remainingItemCount"]),
        (vec!["a", "b"], &json!(2))
    );
    let token = first["metadata"]["continue"].as_str().unwrap();
    cluster.delete_pod("team-b", "c");
    cluster.create_pod("team-b", "e", "robot");
    let next = format!("{path}&continue={token}");
    let second = list(&cluster, &next).await.unwrap();
    assert_eq!(names(&second), ["c", "d"], "as of the first page");
    assert_eq!(
        second["metadata"],
        json!({"resourceVersion": first["metadata"]["resourceVersion"]})
    );
    assert_eq!(names(&list(&cluster, "/api/v1/pods").await.unwrap()), ["a", "b", "d", "e"]);
    let exact = format!(
        "/api/v1/pods?resourceVersionMatch=Exact&resourceVersion={}",
        first["metadata"]["resourceVersion"].as_str().unwrap()
    );
    assert_eq!(names(&list(&cluster, &exact).await.unwrap()), ["a", "b", "c", "d"]);

    cluster.compact(cluster.resource_version());
    assert_eq!(code(&cluster, &next).await, (410, "Expired".to_owned()));
    assert_eq!(code(&cluster, &exact).await.0, 410);
    assert_eq!(code(&cluster, "/api/v1/pods?limit=1&continue=x").await.0, 400);
}

#[tokio::test]
async fn any_version_is_a_whole_list_and_a_future_one_a_timeout() {
    let cluster = cluster().await;
    for name in ["a", "b"] {
        cluster.create_secret("team-b", name);
    }
    let any = list(&cluster, "/api/v1/secrets?limit=1&resourceVersion=0").await.unwrap();
    assert_eq!(names(&any), ["a", "b"]);
    let future = format!("/api/v1/secrets?resourceVersion={}", cluster.resource_version() + 1);
    assert_eq!(code(&cluster, &future).await, (504, "Timeout".to_owned()));
    assert_eq!(code(&cluster, "/api/v1/secrets?fieldSelector=a%3Db").await.0, 400);
}

#[tokio::test]
async fn metadata_is_returned_if_accept_asks_for_it() {
    let cluster = cluster().await;
    cluster.create_pod_on_node("team-a", "p", "robot", "n");
    let client = cluster.admin_client().unwrap();
    let list: Value = client.request(accepting("/api/v1/pods", AS_LIST)).await.unwrap();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    let members: Vec<_> = list["items"][0].as_object().unwrap().keys().collect();
    assert_eq!(members, ["apiVersion", "kind", "metadata"]);
    let one = "/api/v1/namespaces/team-a/pods/p";
    let node: Value = client.request(accepting("/api/v1/nodes/n", AS_OBJECT)).await.unwrap();
    assert_eq!((&node["kind"], &node["spec"]), (&json!("PartialObjectMetadata"), &Value::Null));
    assert_eq!(api_error(&client, accepting(one, AS_LIST)).await.code, 406);
    assert_eq!(api_error(&client, accepting("/api/v1/pods", AS_OBJECT)).await.code, 406);
    let watch = accepting("/api/v1/pods?watch=true", AS_LIST);
    assert_eq!(api_error(&client, watch).await.code, 406);
}

#[tokio::test]
async fn lists_and_watches_need_their_own_verbs() {
    let cluster = cluster().await;
    let username = "system:serviceaccount:team-a:robot";
    let token = cluster.token("team-a", "robot").issue().unwrap();
    let robot = cluster.client_for(token).unwrap();
    let status = api_error(&robot, get("/api/v1/pods")).await;
    assert_eq!(
        (status.code, status.message.as_str()),
        (
            403,
            "pods is forbidden: User \"system:serviceaccount:team-a:robot\" cannot list resource \
             \"pods\" in API group \"\" at the cluster scope"
        )
    );
    let rule = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]});
    cluster.grant_in_namespace(username, "team-a", &rule);
    let path = "/api/v1/namespaces/team-a/pods";
    robot.request::<Value>(get(path)).await.unwrap();
    let watch = api_error(&robot, get(&format!("{path}?watch=true"))).await;
    assert!(watch.message.contains("cannot watch resource \"pods\""), "{}", watch.message);
    assert_eq!(api_error(&robot, get("/api/v1/pods")).await.code, 403);
}

#[tokio::test]
async fn lists_and_watches_have_faults_of_their_own() {
    let cluster = cluster().await;
    cluster.set_fault(Endpoint::Watch, Fault::Status { code: 410, retry_after: None });
    list(&cluster, "/api/v1/pods").await.unwrap();
    assert_eq!(code(&cluster, "/api/v1/pods?watch=true").await.0, 410);
    assert_eq!((cluster.calls(Endpoint::List), cluster.calls(Endpoint::Watch)), (1, 1));
}
