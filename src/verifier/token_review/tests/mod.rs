//! TokenReview against a fake API server in the same process.

mod failures;
mod status_error;

use http::StatusCode;
use serde_json::{Value, json};

use super::*;
use crate::{
    api_server::fake::{FakeApiServer, Reply},
    clock::manual::ManualClock,
};

const TOKEN: &str =
    "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lzc3VlciIsImV4cCI6NDAwMDAwMDAwMH0.c2ln";

fn replying(status: StatusCode, body: impl ToString) -> FakeApiServer {
    FakeApiServer::replying(Reply::new(status, body))
}

fn reviewing(status: &Value) -> FakeApiServer {
    replying(StatusCode::CREATED, json!({ "spec": {}, "status": status }))
}

fn verifier(fake: &FakeApiServer) -> TokenReviewVerifier {
    TokenReviewVerifier::new(fake.api_server())
}

/// Returns the document of the last request.
fn last(fake: &FakeApiServer) -> Value {
    let (path, document) = fake.seen().pop().unwrap();
    assert_eq!(path, PATH);
    document
}

async fn review(status: Value, audience: &str) -> Verdict {
    let audiences = Audiences::new([audience]).unwrap();
    let verifier = verifier(&reviewing(&status));
    verifier.verify(BearerToken::parse(TOKEN).unwrap(), &audiences).await.unwrap()
}

/// Verifies while the clock advances, so that back-off takes no time.
async fn verify_without_waiting(fake: &FakeApiServer) -> Result<Verdict, VerifyError> {
    let clock = ManualClock::new();
    let verifier = verifier(fake).clock(clock.clock());
    let task = tokio::spawn(async move {
        verifier.verify(BearerToken::parse(TOKEN).unwrap(), &Audiences::new(["api"]).unwrap()).await
    });
    while !task.is_finished() {
        clock.advance(Duration::from_millis(10));
        tokio::task::yield_now().await;
    }
    task.await.unwrap()
}

fn user() -> Value {
    json!({
        "username": "system:serviceaccount:ns:sa",
        "uid": "u-1",
        "groups": ["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"],
        "extra": {
            "authentication.kubernetes.io/pod-name": ["p"],
            "authentication.kubernetes.io/pod-uid": ["pu"],
        },
    })
}

fn rejected(reason: RejectReason) -> Verdict {
    Verdict::Reject(reason)
}

#[tokio::test]
async fn authenticated_for_the_requested_audience_is_accepted() {
    let verdict =
        review(json!({ "authenticated": true, "audiences": ["api"], "user": user() }), "api").await;
    let Verdict::Accept(acceptance) = verdict else { panic!("{verdict:?}") };
    let identity = acceptance.identity();
    assert_eq!(identity.username(), "system:serviceaccount:ns:sa");
    assert_eq!(identity.audiences().collect::<Vec<_>>(), ["api"]);
    assert_eq!(identity.issuer(), Some("https://issuer"));
    assert_eq!(identity.pod().unwrap().uid, Some("pu"));
    assert!(identity.expires_at().is_some());
}

/// Reviews for the API server's audience; returns the verdict and the spec that was sent.
async fn review_for_api_server(status: Value) -> (Verdict, Value) {
    let fake = reviewing(&status);
    let token = BearerToken::parse(TOKEN).unwrap();
    let verdict = verifier(&fake).verify(token, &Audiences::api_server()).await.unwrap();
    (verdict, last(&fake)["spec"].clone())
}

#[tokio::test]
async fn for_the_api_server_no_audience_is_asked_for_and_none_need_be_named() {
    for named in [json!(["https://issuer", "other"]), json!([]), Value::Null] {
        let status = json!({ "authenticated": true, "audiences": named, "user": user() });
        let (verdict, spec) = review_for_api_server(status).await;
        assert_eq!(spec, json!({ "token": TOKEN }));
        let Verdict::Accept(acceptance) = verdict else { panic!("{verdict:?}") };
        let audiences = acceptance.identity().audiences().map(Value::from).collect::<Vec<_>>();
        assert_eq!(json!(audiences), if named.is_null() { json!([]) } else { named });
    }
}

#[tokio::test]
async fn for_the_api_server_everything_else_is_checked_as_ever() {
    let node = json!({ "username": "system:node:n", "uid": "u", "groups": ["system:nodes"] });
    for (status, reason) in [
        (json!({ "authenticated": false, "user": user() }), RejectReason::Unauthenticated),
        (json!({ "user": user(), "audiences": ["x"] }), RejectReason::Unauthenticated),
        (json!({ "authenticated": true, "user": node }), RejectReason::NotAServiceAccount),
        (json!({ "authenticated": true }), RejectReason::NotAServiceAccount),
    ] {
        assert_eq!(review_for_api_server(status).await.0, rejected(reason));
    }
}

#[tokio::test]
async fn authenticated_false_is_rejected_even_with_a_user() {
    let status = json!({ "authenticated": false, "audiences": ["api"], "user": user() });
    assert_eq!(review(status, "api").await, rejected(RejectReason::Unauthenticated));
    assert_eq!(
        review(json!({ "user": user(), "audiences": ["api"] }), "api").await,
        rejected(RejectReason::Unauthenticated)
    );
    assert_eq!(
        review(json!({ "error": "[invalid bearer token]" }), "api").await,
        rejected(RejectReason::Unauthenticated)
    );
}

#[tokio::test]
async fn authenticated_without_status_audiences_is_rejected() {
    assert_eq!(
        review(json!({ "authenticated": true, "user": user() }), "other").await,
        rejected(RejectReason::Audience)
    );
    let status = json!({ "authenticated": true, "user": user(), "audiences": [] });
    assert_eq!(review(status, "api").await, rejected(RejectReason::Audience));
}

#[tokio::test]
async fn authenticated_for_another_audience_is_rejected() {
    let status = json!({ "authenticated": true, "user": user(), "audiences": ["other"] });
    assert_eq!(review(status, "api").await, rejected(RejectReason::Audience));
}

#[tokio::test]
async fn a_user_that_is_not_a_service_account_is_rejected() {
    for username in [
        "admin",
        "system:anonymous",
        "system:node:n",
        "system:serviceaccount:ns:sa:x",
        "system:serviceaccount:ns:sa ",
    ] {
        let mut user = user();
        user["username"] = json!(username);
        let status = json!({ "authenticated": true, "user": user, "audiences": ["api"] });
        assert_eq!(
            review(status, "api").await,
            rejected(RejectReason::NotAServiceAccount),
            "{username:?}"
        );
    }
}

#[tokio::test]
async fn the_review_carries_the_token_and_the_requested_audiences() {
    let fake = reviewing(&json!({ "authenticated": false }));
    let audiences = Audiences::new(["a", "b"]).unwrap();
    verifier(&fake).verify(BearerToken::parse(TOKEN).unwrap(), &audiences).await.unwrap();
    let expected = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": { "token": TOKEN, "audiences": ["a", "b"] },
    });
    assert_eq!(last(&fake), expected);
}

#[tokio::test]
async fn any_audience_asks_for_those_that_the_token_names() {
    let fake = reviewing(&json!({ "authenticated": true, "user": user(), "audiences": ["x"] }));
    let token = "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOlsieCJdfQ.c2ln";
    let verdict = verifier(&fake)
        .verify(BearerToken::parse(token).unwrap(), &Audiences::dangerous_any())
        .await
        .unwrap();
    assert!(matches!(verdict, Verdict::Accept(_)));
    assert_eq!(last(&fake)["spec"]["audiences"], json!(["x"]));
}

/// Go writes a nil list as `null`, and within a map nothing omits it.
#[tokio::test]
async fn null_is_the_same_as_absent() {
    let mut user = user();
    user["extra"]["example.org/empty"] = Value::Null;
    let status =
        json!({ "authenticated": true, "audiences": ["api"], "user": user, "error": null });
    assert!(matches!(review(status, "api").await, Verdict::Accept(_)));
    let status = json!({ "authenticated": true, "user": user, "audiences": null });
    assert_eq!(review(status, "api").await, rejected(RejectReason::Audience));
    for name in ["username", "uid", "groups"] {
        let mut user = user.clone();
        user[name] = Value::Null;
        let status = json!({ "authenticated": true, "audiences": ["api"], "user": user });
        assert_eq!(
            review(status, "api").await,
            rejected(RejectReason::NotAServiceAccount),
            "{name}"
        );
    }
    let status = json!({ "authenticated": true, "audiences": ["api"], "user": null });
    assert_eq!(review(status, "api").await, rejected(RejectReason::NotAServiceAccount));
    let status = json!({ "authenticated": null, "user": null, "audiences": null, "error": null });
    assert_eq!(review(status, "api").await, rejected(RejectReason::Unauthenticated));
}
