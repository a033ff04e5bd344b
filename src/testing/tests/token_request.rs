use std::time::Duration;

use serde_json::json;

use super::{super::*, *};

/// Sends JSON because `k8s_openapi`'s types differ between its versions.
async fn request(cluster: &Cluster, spec: Value) -> Result<Value, kube::Error> {
    let request =
        post("/api/v1/namespaces/team-a/serviceaccounts/robot/token", &json!({"spec": spec}));
    cluster.admin_client().unwrap().request(request).await
}

fn bound(kind: &str, name: &str, uid: Option<&str>) -> Value {
    let reference = json!({"apiVersion": "v1", "kind": kind, "name": name, "uid": uid});
    json!({"audiences": ["x"], "boundObjectRef": reference})
}

fn api_error(result: Result<Value, kube::Error>) -> (u16, String, String) {
    match result {
        Err(kube::Error::Api(status)) => (status.code, status.reason, status.message),
        other => panic!("not an error of the API: {other:?}"),
    }
}

#[tokio::test]
async fn the_claims_match_kubernetes() {
    let time = ManualClock::new();
    let cluster = with(Cluster::builder().clock(time.clock())).await;
    let pod = cluster.create_pod_on_node("team-a", "robot-0", "robot", "node-1");
    let account = cluster.create_service_account("team-a", "robot");
    let issued = request(&cluster, bound("Pod", "robot-0", Some(&pod))).await.unwrap();
    let status = &issued["status"];
    let jws =
        super::super::jws_parser::Jws::parse(status["token"].as_str().unwrap(), false).unwrap();
    assert_eq!(jws.kid, cluster.signing_key().kid());
    let mut claims = super::super::jws_parser::strict_json(&jws.payload).unwrap();
    let now = cluster.state.now().as_secs();
    assert!(claims["jti"].take().is_string());
    assert!(claims["kubernetes.io"]["node"]["uid"].take().is_string());
    assert_eq!(
        claims,
        json!({
            "iss": "https://kubernetes.default.svc.cluster.local",
            "sub": "system:serviceaccount:team-a:robot",
            "aud": ["x"],
            "exp": now + 3600, "iat": now, "nbf": now, "jti": null,
            "kubernetes.io": {
                "namespace": "team-a",
                "serviceaccount": {"name": "robot", "uid": account},
                "pod": {"name": "robot-0", "uid": pod},
                "node": {"name": "node-1", "uid": null},
            },
        })
    );
    let expiration =
        super::super::state::seconds(status["expirationTimestamp"].as_str().unwrap()).unwrap();
    assert_eq!(u64::try_from(expiration).unwrap(), now + 3600);
    assert_eq!(issued["spec"]["audiences"], json!(["x"]));
}

#[tokio::test]
async fn the_lifetime_is_between_ten_minutes_and_2_to_the_32_seconds() {
    let cluster = cluster().await;
    let of = |seconds: u64| json!({"expirationSeconds": seconds});
    let (code, reason, message) = api_error(request(&cluster, of(599)).await);
    assert_eq!((code, reason.as_str()), (422, "Invalid"));
    assert_eq!(
        message,
        "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid \
         value: 599: may not specify a duration less than 10 minutes"
    );
    assert_eq!(api_error(request(&cluster, of((1 << 32) + 1)).await).0, 422);
    assert!(request(&cluster, of(600)).await.is_ok());
    assert!(request(&cluster, of(1 << 32)).await.is_ok());
}

#[tokio::test]
async fn without_an_audience_a_token_is_for_the_api_server() {
    let cluster = with(Cluster::builder().api_audience("api-1").api_audience("api-2")).await;
    let issued = request(&cluster, json!({})).await.unwrap();
    assert_eq!(issued["spec"]["audiences"], json!(["api-1", "api-2"]));
    let client = cluster.client_for(issued["status"]["token"].as_str().unwrap()).unwrap();
    client.request_text(get("/openid/v1/jwks")).await.unwrap();
}

#[tokio::test]
async fn the_bound_object_must_exist_with_the_given_uid() {
    let cluster = cluster().await;
    cluster.create_pod("team-a", "robot-0", "robot");
    cluster.create_pod("team-a", "other-0", "other");
    let (code, reason, message) =
        api_error(request(&cluster, bound("Pod", "robot-0", Some("other-uid"))).await);
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    assert!(message.starts_with(
        "Operation cannot be fulfilled on Pod \"robot-0\": the UID in the bound object"
    ));
    assert_eq!(api_error(request(&cluster, bound("Pod", "nobody", None)).await).0, 404);
    let (code, _, message) = api_error(request(&cluster, bound("Pod", "other-0", None)).await);
    assert_eq!(code, 400);
    assert!(message.contains("pod running with different serviceaccount name"), "{message}");
    assert_eq!(api_error(request(&cluster, bound("Deployment", "x", None)).await).0, 400);
    assert!(request(&cluster, bound("Pod", "robot-0", None)).await.is_ok());
}

/// kubelet's default of 3607 seconds gets a year in `exp`, but an hour in the response.
#[tokio::test]
async fn a_pods_token_for_the_api_server_is_extended_to_a_year() {
    let cluster = cluster().await;
    cluster.create_pod("team-a", "robot-0", "robot");
    let token = || {
        cluster
            .token("team-a", "robot")
            .expires_in(Duration::from_secs(3607))
            .bound_to_pod("robot-0")
    };
    let claims = token().claims().unwrap();
    let issued = claims["iat"].as_u64().unwrap();
    assert_eq!(claims["exp"], issued + 365 * 86_400);
    assert_eq!(claims["kubernetes.io"]["warnafter"], issued + 3607);
    let claims = token().audience("x").claims().unwrap();
    assert_eq!(claims["exp"], claims["iat"].as_u64().unwrap() + 3607);
}

#[tokio::test]
async fn the_server_may_shorten_the_lifetime() {
    let cluster = with(Cluster::builder().max_token_lifetime(Duration::from_secs(1000))).await;
    let issued = request(&cluster, json!({"expirationSeconds": 5000})).await.unwrap();
    assert_eq!(issued["spec"]["expirationSeconds"], 1000);
}
