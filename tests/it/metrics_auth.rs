//! `metrics_auth`: a token for the API server, and a role for path and method.

use axum::http::{Method, StatusCode};
use tower_kube_auth::{
    metrics_auth,
    testing::{Cluster, Endpoint, Fault},
};

use crate::support::{Service, anonymous, bearer};

/// Starts a cluster whose ServiceAccount `monitoring/prometheus` may get `/`, and `monitoring/other`
/// nothing.
async fn start() -> (Cluster, Service) {
    let cluster = Cluster::start().await.unwrap();
    for name in ["prometheus", "other"] {
        cluster.create_service_account("monitoring", name);
    }
    let rule = serde_json::json!({ "nonResourceURLs": ["/"], "verbs": ["get"] });
    cluster.grant("system:serviceaccount:monitoring:prometheus", &rule);
    let layer = metrics_auth(cluster.kube_client().unwrap()).unwrap();
    (cluster, Service::behind(move |router| router.layer(layer)))
}

fn token(cluster: &Cluster, name: &str) -> String {
    cluster.token("monitoring", name).issue().unwrap()
}

#[tokio::test]
async fn a_scraper_with_the_role_gets_through_and_others_are_forbidden() {
    let (cluster, service) = start().await;
    let answer = service.get(&token(&cluster, "prometheus")).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.body, "system:serviceaccount:monitoring:prometheus []");

    let answer = service.blocked(bearer(&token(&cluster, "other"))).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(answer.challenge().unwrap().contains("error=\"insufficient_scope\""));

    // The role is for another method.
    let mut request = bearer(&token(&cluster, "prometheus"));
    *request.method_mut() = Method::DELETE;
    assert_eq!(service.blocked(request).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_token_of_another_audience_and_none_are_rejected_before_any_access_review() {
    let (cluster, service) = start().await;
    let orders = cluster.token("monitoring", "prometheus").audience("orders").issue().unwrap();
    service.blocked(bearer(&orders)).await.assert_invalid_token("another audience");
    let answer = service.blocked(anonymous()).await;
    assert_eq!(answer.challenge(), Some("Bearer realm=\"kubernetes\""));
    assert_eq!(cluster.calls(Endpoint::SubjectAccessReview), 0);
}

#[tokio::test]
async fn a_failure_of_either_review_is_503() {
    for endpoint in [Endpoint::TokenReview, Endpoint::SubjectAccessReview] {
        let (cluster, service) = start().await;
        cluster.set_fault(endpoint, Fault::Status { code: 403, retry_after: None });
        service.blocked(bearer(&token(&cluster, "prometheus"))).await.assert_unavailable();
    }
}
