//! Tests of the cluster, mostly through a `kube` client over TLS.

mod faults;
mod lists;
mod objects;
mod rbac;
mod server;
mod token_request;
mod token_review;
mod watches;

use serde_json::{Value, json};

use super::{Cluster, ClusterBuilder};

/// Starts a cluster with the ServiceAccount `robot` in `team-a`.
async fn cluster() -> Cluster {
    with(Cluster::builder()).await
}

async fn with(builder: ClusterBuilder) -> Cluster {
    let cluster = builder.start().await.unwrap();
    cluster.create_service_account("team-a", "robot");
    cluster
}

/// Returns the `status` of a TokenReview.
fn review(cluster: &Cluster, token: &str, audiences: &[&str]) -> Value {
    let review = json!({"spec": {"token": token, "audiences": audiences}});
    cluster.state.review_token(review).unwrap()["status"].clone()
}

/// Returns whether TokenReview accepts a token for the audience `x`.
fn is_accepted(cluster: &Cluster, token: &str) -> bool {
    review(cluster, token, &["x"])["authenticated"] == true
}

/// Returns why TokenReview rejects a token for the audience `x`.
fn rejection(cluster: &Cluster, token: &str) -> String {
    let status = review(cluster, token, &["x"]);
    assert!(status.get("authenticated").is_none(), "{status}");
    assert_eq!(status["user"], json!({}));
    status["error"].as_str().unwrap().to_owned()
}

/// Returns the claims of a valid token for the audience `x`.
fn claims(cluster: &Cluster) -> Value {
    cluster.token("team-a", "robot").audience("x").claims().unwrap()
}

/// Sends a request and returns the API server's error.
async fn api_error(
    client: &kube::Client,
    request: http::Request<Vec<u8>>,
) -> Box<kube::core::Status> {
    match client.request::<Value>(request).await {
        Err(kube::Error::Api(status)) => status,
        other => panic!("not an error of the API: {other:?}"),
    }
}

fn post(path: &str, body: &Value) -> http::Request<Vec<u8>> {
    http::Request::post(path).body(body.to_string().into_bytes()).unwrap()
}

fn get(path: &str) -> http::Request<Vec<u8>> {
    http::Request::get(path).body(Vec::new()).unwrap()
}

const TOKEN_REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
