//! A client with an in-memory API server that authenticates every token.

use axum::http::{Request, Response, StatusCode};
use kube::client::Body;
use serde_json::json;

use super::tokens::AUDIENCE;

pub fn reviewing_client() -> kube::Client {
    let status = json!({
        "authenticated": true,
        "audiences": [AUDIENCE],
        "user": {
            "username": "system:serviceaccount:shop:checkout",
            "uid": "6b2f7c9e-0000-4000-8000-000000000000",
            "groups": ["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"],
            "extra": {"authentication.kubernetes.io/pod-name": ["checkout-7d9f6b5c4d-x8kd"]},
        },
    });
    let answer = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {}, "status": status});
    let answer = answer.to_string().into_bytes();
    let service = tower::service_fn(move |request: Request<Body>| {
        let answer = answer.clone();
        async move {
            request.into_body().collect_bytes().await?;
            let response = Response::builder().status(StatusCode::CREATED).body(Body::from(answer));
            Ok::<_, kube::Error>(response.expect("a response"))
        }
    });
    kube::Client::new(service, "default")
}
