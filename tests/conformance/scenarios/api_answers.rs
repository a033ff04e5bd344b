//! Responses and errors of the API server to the calls that this crate makes.

use http::Request;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Client;
use serde_json::{Value, json};

use crate::{
    fixture::{Fixture, Outcome},
    raw_review::raw_review,
};

pub(super) async fn a_token_request_returns_the_expiry_of_the_token(fixture: Fixture) -> Outcome {
    fixture.service_account("robot").await?;
    let asked = json!({"spec": {"audiences": ["orders", "invoices"], "expirationSeconds": 1200}});
    let answer = token_request(&fixture, "robot", &asked).await?;
    assert_eq!(
        (&answer["kind"], &answer["apiVersion"]),
        (&json!("TokenRequest"), &json!("authentication.k8s.io/v1"))
    );
    assert_eq!(answer["spec"]["audiences"], asked["spec"]["audiences"]);
    assert_eq!(answer["spec"]["expirationSeconds"], 1200);
    let ends: Timestamp =
        answer["status"]["expirationTimestamp"].as_str().ok_or("a time")?.parse()?;
    let off = ends.duration_since(Timestamp::now()) - SignedDuration::from_secs(1200);
    assert!(off.abs() < SignedDuration::from_secs(30), "{off:?}");
    let token = answer["status"]["token"].as_str().ok_or("a token")?;
    let claimed = tower_kube_auth::inspect::UnverifiedToken::decode(token)?;
    assert_eq!(claimed.audiences(), ["orders", "invoices"]);
    assert_eq!(claimed.expires_at(), Some(ends.into()));

    // Without audiences the token is for the API server.
    let answer = token_request(&fixture, "robot", &json!({"spec": {}})).await?;
    assert_eq!(answer["spec"]["expirationSeconds"], 3600);
    assert_eq!(answer["spec"]["audiences"].as_array().map(Vec::len), Some(1), "{answer}");
    Ok(())
}

pub(super) async fn invalid_token_requests_fail_with_the_documented_status(
    fixture: Fixture,
) -> Outcome {
    fixture.service_account("robot").await?;
    fixture.service_account("other").await?;
    fixture.pod("other-0", "other").await?;
    fixture.pod("robot-0", "robot").await?;
    let bound = |name: &str, uid: &str| {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid});
        json!({"spec": {"audiences": ["orders"], "boundObjectRef": pod}})
    };
    let lasting =
        |seconds: i64| json!({"spec": {"audiences": ["orders"], "expirationSeconds": seconds}});
    for (what, account, asked, code) in [
        ("no such account", "nobody", lasting(600), 404),
        ("too short", "robot", lasting(599), 422),
        ("too long", "robot", lasting(1 << 33), 422),
        ("no such Pod", "robot", bound("robot-1", ""), 404),
        ("another account's Pod", "robot", bound("other-0", ""), 400),
        (
            "another Pod of the same name",
            "robot",
            bound("robot-0", "00000000-0000-4000-8000-000000000000"),
            409,
        ),
    ] {
        let rejected = token_request(&fixture, account, &asked).await;
        assert_eq!(status_of(rejected).0, code, "{what}");
    }
    Ok(())
}

pub(super) async fn an_invalid_token_is_distinguished_from_an_invalid_caller(
    fixture: Fixture,
) -> Outcome {
    // An invalid token is a successful response with an error in its status.
    let review = raw_review(fixture.admin(), "garbage", &["orders"]).await?;
    assert!(review["authenticated"].is_null() || review["authenticated"] == false, "{review}");
    assert!(
        review["error"].as_str().is_some_and(|error| error.contains("invalid bearer token")),
        "{review}"
    );
    assert_eq!(review["user"], json!({}));
    assert!(review["audiences"].is_null());

    // An invalid caller is an HTTP error.
    let (code, reason) = status_of(review_as(fixture.cluster().client_for("garbage")).await);
    assert_eq!((code, &*reason), (401, "Unauthorized"));
    fixture.service_account("robot").await?;
    let robot = fixture.cluster().client_for(&fixture.token("robot", &[]).await?);
    let (code, reason) = status_of(review_as(robot).await);
    assert_eq!((code, &*reason), (403, "Forbidden"));
    let elsewhere = fixture.cluster().client_for(&fixture.token("robot", &["orders"]).await?);
    assert_eq!(
        status_of(review_as(elsewhere).await).0,
        401,
        "a token for another audience is no credential here"
    );
    // An empty token is an error of the call.
    let empty = raw_review(fixture.admin(), "", &["orders"]).await;
    assert!(empty.is_err(), "{empty:?}");
    Ok(())
}

async fn review_as(client: Client) -> Outcome<Value> {
    raw_review(client, "x", &["orders"]).await
}

async fn token_request(fixture: &Fixture, account: &str, asked: &Value) -> Outcome<Value> {
    let path =
        format!("/api/v1/namespaces/{}/serviceaccounts/{account}/token", fixture.namespace());
    let mut body = asked.clone();
    body["apiVersion"] = "authentication.k8s.io/v1".into();
    body["kind"] = "TokenRequest".into();
    let request = Request::post(path).header(http::header::CONTENT_TYPE, "application/json");
    Ok(fixture.admin().request(request.body(body.to_string().into_bytes())?).await?)
}

/// Returns the code and the reason of an error response.
#[track_caller]
fn status_of(outcome: Outcome<Value>) -> (u16, String) {
    let error = outcome.expect_err("an error response");
    match error.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) => (status.code, status.reason.clone()),
        _ => panic!("no response: {error}"),
    }
}
