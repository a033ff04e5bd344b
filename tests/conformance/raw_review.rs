//! A TokenReview without any code of this crate.

use kube::Client;
use serde_json::{Value, json};

use crate::fixture::Outcome;

/// Returns the `status` of a TokenReview.
pub(crate) async fn raw_review(client: Client, token: &str, audiences: &[&str]) -> Outcome<Value> {
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token, "audiences": audiences},
    });
    let request = http::Request::post("/apis/authentication.k8s.io/v1/tokenreviews")
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(review.to_string().into_bytes())?;
    let mut reviewed: Value = client.request(request).await?;
    Ok(reviewed["status"].take())
}
