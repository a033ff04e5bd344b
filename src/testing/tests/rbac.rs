use serde_json::json;

use super::{super::*, *};

const ROBOT: &str = "system:serviceaccount:team-a:robot";

fn robot(cluster: &Cluster) -> kube::Client {
    cluster.client_for(cluster.token("team-a", "robot").issue().unwrap()).unwrap()
}

#[tokio::test]
async fn token_review_requires_the_role_auth_delegator() {
    let cluster = cluster().await;
    let review = || post(TOKEN_REVIEWS, &json!({"spec": {"token": "x"}}));
    let status = api_error(&robot(&cluster), review()).await;
    assert_eq!((status.code, status.reason.as_str()), (403, "Forbidden"));
    assert_eq!(
        status.message,
        "tokenreviews.authentication.k8s.io is forbidden: User \
         \"system:serviceaccount:team-a:robot\" cannot create resource \"tokenreviews\" in API \
         group \"authentication.k8s.io\" at the cluster scope"
    );
    cluster.grant_auth_delegator(ROBOT);
    robot(&cluster).request::<Value>(review()).await.unwrap();
    cluster.revoke(ROBOT);
    assert_eq!(api_error(&robot(&cluster), review()).await.code, 403);
}

#[tokio::test]
async fn the_verifier_may_review_tokens_until_revoked() {
    let cluster = cluster().await;
    let client = cluster.kube_client().unwrap();
    let review = || post(TOKEN_REVIEWS, &json!({"spec": {"token": "x"}}));
    client.request::<Value>(review()).await.unwrap();
    assert_eq!(api_error(&client, get("/api/v1/namespaces/default/pods")).await.code, 403);
    cluster.revoke(Cluster::VERIFIER);
    let message = api_error(&cluster.kube_client().unwrap(), review()).await.message;
    assert!(message.contains(Cluster::VERIFIER), "{message}");
}

#[tokio::test]
async fn token_requests_can_be_restricted_by_name() {
    let cluster = cluster().await;
    cluster.create_service_account("team-a", "other");
    let request = |namespace: &str, name: &str| {
        post(
            &format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"),
            &json!({"spec": {}}),
        )
    };
    let status = api_error(&robot(&cluster), request("team-a", "robot")).await;
    assert_eq!(
        status.message,
        "serviceaccounts \"robot\" is forbidden: User \"system:serviceaccount:team-a:robot\" \
         cannot create resource \"serviceaccounts/token\" in API group \"\" in the namespace \
         \"team-a\""
    );
    cluster.grant_token_request(ROBOT, "team-a", &["robot"]);
    robot(&cluster).request::<Value>(request("team-a", "robot")).await.unwrap();
    assert_eq!(api_error(&robot(&cluster), request("team-a", "other")).await.code, 403);
    cluster.create_service_account("team-b", "robot");
    assert_eq!(api_error(&robot(&cluster), request("team-b", "robot")).await.code, 403);
}

#[tokio::test]
async fn issuer_discovery_is_limited_to_service_accounts_by_default() {
    let cluster = cluster().await;
    let keys = || get("/openid/v1/jwks");
    robot(&cluster).request_text(keys()).await.unwrap();
    let anonymous = cluster.anonymous_client().unwrap();
    let status = api_error(&anonymous, keys()).await;
    assert_eq!(
        status.message,
        "forbidden: User \"system:anonymous\" cannot get path \"/openid/v1/jwks\""
    );
    cluster.allow_anonymous_discovery();
    anonymous.request_text(keys()).await.unwrap();
    cluster.revoke_issuer_discovery();
    assert_eq!(api_error(&robot(&cluster), keys()).await.code, 403);
}

#[tokio::test]
async fn an_invalid_credential_gets_401_and_a_missing_one_is_anonymous() {
    let cluster = cluster().await;
    let status = api_error(&cluster.client_for("junk").unwrap(), get("/version")).await;
    assert_eq!(
        (status.code, status.reason.as_str(), status.message.as_str()),
        (401, "Unauthorized", "Unauthorized")
    );
    let other = cluster.token("team-a", "robot").audience("x").issue().unwrap();
    assert_eq!(
        api_error(&cluster.client_for(other).unwrap(), get("/version")).await.code,
        401,
        "for another audience"
    );
    cluster.anonymous_client().unwrap().request::<Value>(get("/version")).await.unwrap();

    let strict = with(Cluster::builder().anonymous(false)).await;
    assert_eq!(api_error(&strict.anonymous_client().unwrap(), get("/version")).await.code, 401);
    assert_eq!(review(&strict, " x", &["x"])["authenticated"], Value::Null);
}

#[tokio::test]
async fn subject_access_reviews_apply_rbac() {
    let cluster = cluster().await;
    cluster.grant("jane", &json!({"nonResourceURLs": ["/metrics/*"], "verbs": ["get"]}));
    cluster.grant_in_namespace(
        "jane",
        "team-a",
        &json!({
            "apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["*"],
            "resourceNames": ["web"],
        }),
    );
    let client = cluster.kube_client().unwrap();
    let ask = async |spec: Value| {
        let request =
            post("/apis/authorization.k8s.io/v1/subjectaccessreviews", &json!({"spec": spec}));
        client.request::<Value>(request).await.map(|review| review["status"].clone())
    };
    let path = |user: &str, path: &str| {
        let attributes = json!({"path": path, "verb": "get"});
        json!({"user": user, "nonResourceAttributes": attributes})
    };
    let deployment = |namespace: &str, name: &str| {
        let attributes = json!({
            "namespace": namespace, "name": name, "verb": "patch", "group": "apps",
            "resource": "deployments",
        });
        json!({"user": "jane", "resourceAttributes": attributes})
    };
    let allowed = ask(path("jane", "/metrics/x")).await.unwrap();
    assert_eq!(allowed["allowed"], true);
    assert!(allowed["reason"].as_str().unwrap().starts_with("RBAC: allowed by ClusterRoleBinding"));
    assert_eq!(ask(path("jane", "/metrics")).await.unwrap(), json!({"allowed": false}));
    assert_eq!(ask(path("joe", "/metrics/x")).await.unwrap()["allowed"], false);
    assert_eq!(ask(deployment("team-a", "web")).await.unwrap()["allowed"], true);
    assert_eq!(ask(deployment("team-a", "db")).await.unwrap()["allowed"], false);
    assert_eq!(ask(deployment("team-b", "web")).await.unwrap()["allowed"], false);
    let masters = json!({
        "user": "x", "groups": ["system:masters"],
        "nonResourceAttributes": {"path": "/", "verb": "delete"},
    });
    assert_eq!(ask(masters).await.unwrap(), json!({"allowed": true}));
    assert!(ask(json!({"user": "x"})).await.is_err());
}

/// RBAC objects are served by the API, so that a test can grant on this cluster and on a real one.
#[tokio::test]
async fn permissions_can_be_granted_through_the_api() {
    let cluster = cluster().await;
    let binding = json!({
        "metadata": {"name": "robot-delegates"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
            "name": "system:auth-delegator",
        },
        "subjects": [{"kind": "ServiceAccount", "namespace": "team-a", "name": "robot"}],
    });
    let admin = cluster.admin_client().unwrap();
    let bindings: kube::Api<k8s_openapi::api::rbac::v1::ClusterRoleBinding> = kube::Api::all(admin);
    bindings.create(&Default::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
    let review = post(TOKEN_REVIEWS, &json!({"spec": {"token": "x"}}));
    robot(&cluster).request::<Value>(review.clone()).await.unwrap();
    bindings.delete("robot-delegates", &Default::default()).await.unwrap();
    assert_eq!(api_error(&robot(&cluster), review).await.code, 403);
}
