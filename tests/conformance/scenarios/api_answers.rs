//! What the API server answers to the calls that this crate makes, and how it refuses them.

use http::Request;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Client;
use serde_json::{Value, json};

use crate::{
    raw_review::raw_review,
    scene::{Outcome, Scene},
};

pub(super) async fn a_token_request_says_when_the_token_ends(scene: Scene) -> Outcome {
    scene.service_account("robot").await?;
    let asked = json!({"spec": {"audiences": ["orders", "invoices"], "expirationSeconds": 1200}});
    let answer = token_request(&scene, "robot", &asked).await?;
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

    // Nobody in particular is the API server itself.
    let answer = token_request(&scene, "robot", &json!({"spec": {}})).await?;
    assert_eq!(answer["spec"]["expirationSeconds"], 3600);
    assert_eq!(answer["spec"]["audiences"].as_array().map(Vec::len), Some(1), "{answer}");
    Ok(())
}

pub(super) async fn token_requests_are_refused_as_documented(scene: Scene) -> Outcome {
    scene.service_account("robot").await?;
    scene.service_account("other").await?;
    scene.pod("other-0", "other").await?;
    scene.pod("robot-0", "robot").await?;
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
        let refused = token_request(&scene, account, &asked).await;
        assert_eq!(status_of(refused).0, code, "{what}");
    }
    Ok(())
}

pub(super) async fn a_bad_token_is_told_from_a_bad_caller(scene: Scene) -> Outcome {
    // A token that is not good is an answer, with an error in it that is no error of the call.
    let review = raw_review(scene.admin(), "garbage", &["orders"]).await?;
    assert!(review["authenticated"].is_null() || review["authenticated"] == false, "{review}");
    assert!(
        review["error"].as_str().is_some_and(|error| error.contains("invalid bearer token")),
        "{review}"
    );
    assert_eq!(review["user"], json!({}));
    assert!(review["audiences"].is_null());

    // A caller who is not good is refused.
    let (code, reason) = status_of(review_as(scene.cluster().client_for("garbage")).await);
    assert_eq!((code, &*reason), (401, "Unauthorized"));
    scene.service_account("robot").await?;
    let robot = scene.cluster().client_for(&scene.token("robot", &[]).await?);
    let (code, reason) = status_of(review_as(robot).await);
    assert_eq!((code, &*reason), (403, "Forbidden"));
    let elsewhere = scene.cluster().client_for(&scene.token("robot", &["orders"]).await?);
    assert_eq!(
        status_of(review_as(elsewhere).await).0,
        401,
        "a token for another audience is none here"
    );
    // Nothing to review is no answer either.
    let empty = raw_review(scene.admin(), "", &["orders"]).await;
    assert!(empty.is_err(), "{empty:?}");
    Ok(())
}

async fn review_as(client: Client) -> Outcome<Value> {
    raw_review(client, "x", &["orders"]).await
}

async fn token_request(scene: &Scene, account: &str, asked: &Value) -> Outcome<Value> {
    let path = format!("/api/v1/namespaces/{}/serviceaccounts/{account}/token", scene.namespace());
    let mut body = asked.clone();
    body["apiVersion"] = "authentication.k8s.io/v1".into();
    body["kind"] = "TokenRequest".into();
    let request = Request::post(path).header(http::header::CONTENT_TYPE, "application/json");
    Ok(scene.admin().request(request.body(body.to_string().into_bytes())?).await?)
}

/// The code and the reason of a refusal.
#[track_caller]
fn status_of(outcome: Outcome<Value>) -> (u16, String) {
    let error = outcome.expect_err("a refusal");
    match error.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) => (status.code, status.reason.clone()),
        _ => panic!("not an answer: {error}"),
    }
}
