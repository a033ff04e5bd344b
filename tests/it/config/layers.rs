//! The layers that a configuration builds, on the embedded cluster.

use axum::http::StatusCode;
use serde_json::json;
use tower_kube_auth::testing::Cluster;

use super::read;
use crate::support::{Service, anonymous, bearer};

#[tokio::test]
async fn a_token_for_two_audiences_must_pass_both_rules() {
    let cluster = Cluster::start().await.unwrap();
    let config = json!({ "audiences": [
        { "name": "orders", "rule": { "any_authenticated": true } },
        { "name": "orders-admin", "rule": { "allow_list": ["ops/console"] } },
    ] });
    let auth = read(config).unwrap().build(cluster.kube_client().unwrap()).await.unwrap();
    let service = Service::behind(|router| router.layer(auth.layers()));
    let token = |namespace: &str, name: &str, audiences: &[&str]| {
        cluster.create_service_account(namespace, name);
        let token = cluster.token(namespace, name);
        audiences.iter().fold(token, |token, audience| token.audience(*audience)).issue().unwrap()
    };

    for (namespace, name, audiences) in [
        ("shop", "checkout", &["orders"][..]),
        ("ops", "console", &["orders"]),
        ("ops", "console", &["orders-admin"]),
        ("ops", "console", &["orders", "orders-admin"]),
        ("shop", "checkout", &["orders", "payments"]),
    ] {
        let answer = service.get(&token(namespace, name, audiences)).await;
        assert_eq!(answer.status, StatusCode::OK, "{namespace}/{name} {audiences:?}");
    }
    for audiences in
        [&["orders-admin"][..], &["orders", "orders-admin"], &["orders-admin", "orders"]]
    {
        let answer = service.blocked(bearer(&token("shop", "checkout", audiences))).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{audiences:?}");
        assert!(answer.challenge().unwrap().contains("error=\"insufficient_scope\""));
    }
    let foreign = service.blocked(bearer(&token("ops", "console", &["payments"]))).await;
    foreign.assert_invalid_token("a token for another service");
    let answer = service.blocked(anonymous()).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_review_rule_asks_for_its_attributes() {
    let cluster = Cluster::start().await.unwrap();
    let config = json!({ "audiences": [{ "name": "orders", "rule": { "subject_access_review": {
        "resource": {
            "verb": "create",
            "resource": "orders",
            "group": "shop.example.org",
            "version": "v1",
            "subresource": "status",
            "namespace": "shop",
            "name": "first",
        },
        "denied_ttl": "0s",
    } } }] });
    let auth = read(config).unwrap().build(cluster.kube_client().unwrap()).await.unwrap();
    let service = Service::behind(|router| router.layer(auth.layers()));
    cluster.create_service_account("shop", "checkout");
    let token = cluster.token("shop", "checkout").audience("orders").issue().unwrap();

    let answer = service.blocked(bearer(&token)).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let rule = json!({
        "apiGroups": ["shop.example.org"],
        "resources": ["orders/status"],
        "resourceNames": ["first"],
        "verbs": ["create"],
    });
    cluster.grant_in_namespace("system:serviceaccount:shop:checkout", "shop", &rule);
    assert_eq!(service.get(&token).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_token_for_the_api_server_must_pass_its_rule() {
    let cluster = Cluster::start().await.unwrap();
    let config = json!({ "api_server_audience": { "allow_list": ["ops/prometheus"] } });
    let auth = read(config).unwrap().build(cluster.kube_client().unwrap()).await.unwrap();
    let service = Service::behind(|router| router.layer(auth.layers()));
    for (name, status) in [("prometheus", StatusCode::OK), ("other", StatusCode::FORBIDDEN)] {
        cluster.create_service_account("ops", name);
        let token = cluster.token("ops", name).issue().unwrap();
        assert_eq!(service.get(&token).await.status, status, "{name}");
    }
    assert_eq!(service.reached(), 1);
}
