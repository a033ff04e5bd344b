//! `POST /apis/authentication.k8s.io/v1/tokenreviews`

use serde_json::{Value, json};

use super::{
    authentication::Authentication,
    objects::{set, text},
    state::State,
    status::Status,
};

impl State {
    /// Returns the review with its `status`.
    pub(super) fn review_token(&self, review: Value) -> Result<Value, Status> {
        let token = text(&review, "/spec/token");
        if token.is_empty() {
            return Err(Status::bad_request("token is required for TokenReview in authentication"));
        }
        let wanted: Vec<String> = match review.pointer("/spec/audiences").and_then(Value::as_array)
        {
            Some(list) if !list.is_empty() => {
                list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            _ => self.api_audiences.clone(),
        };
        // Kubernetes authenticates a request with this header, so spaces in the token matter.
        let status = match self.authenticate(&format!("Bearer {token}"), &wanted) {
            Authentication::User(user, audiences) => {
                json!({"authenticated": true, "user": user.to_json(), "audiences": audiences})
            }
            Authentication::Failed(error) => json!({"user": {}, "error": error}),
            Authentication::Nobody => json!({"user": {}}),
        };
        let mut answer = json!({
            "kind": "TokenReview",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"creationTimestamp": null},
            "spec": review.get("spec").cloned().unwrap_or_default(),
        });
        set(&mut answer, "status", status);
        Ok(answer)
    }
}
