use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
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
        "extra": { "authentication.kubernetes.io/pod-name": ["p"], "authentication.kubernetes.io/pod-uid": ["pu"] },
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
async fn a_failed_lookup_in_the_api_server_is_inconclusive() {
    for failure in [
        // Seen at kube-apiserver 1.20.2 that had lost etcd.
        "rpc error: code = Unavailable desc = transport is closing",
        "etcdserver: request timed out",
        r#"Get "https://[::1]:6443/api/v1/namespaces/ns/serviceaccounts/sa": dial tcp [::1]:6443: connect: connection refused"#,
        "Get https://127.0.0.1:6443/api/v1/namespaces/ns/serviceaccounts/sa: EOF",
        "client rate limiter Wait returned an error: context deadline exceeded",
        "context deadline exceeded",
        "context canceled",
        "Too many requests, please try again later.",
        "the server has received too many requests and has asked us to try again later (get serviceaccounts sa)",
        "storage is (re)initializing",
        "Internal error occurred: authentication failed unexpectedly",
        r#"an error on the server ("") has prevented the request from succeeding (get serviceaccounts sa)"#,
        "the server is currently unable to handle the request (get serviceaccounts sa)",
        "the server was unable to return a response in the time allotted, but may still be processing the request",
        "Timeout: request did not complete within requested timeout 34s",
        "The get operation against serviceaccounts could not be completed at this time, please try again.",
    ] {
        for error in [
            failure.to_owned(),
            format!("[invalid bearer token, {failure}]"),
            format!("[invalid bearer token, [invalid bearer token, {failure}]]"),
        ] {
            let fake = reviewing(&json!({ "user": {}, "error": error }));
            let audiences = Audiences::new(["api"]).unwrap();
            let undecided = verifier(&fake)
                .verify(BearerToken::parse(TOKEN).unwrap(), &audiences)
                .await
                .unwrap_err();
            assert_eq!(undecided.kind(), VerifyErrorKind::Inconclusive, "{error}");
            assert!(
                undecided.to_string().contains(failure.get(..20).unwrap_or(failure)),
                "{undecided}"
            );
        }
    }
}

#[tokio::test]
async fn an_error_about_the_token_is_a_rejection() {
    for error in [
        "",
        "invalid bearer token",
        "Unauthorized",
        "words of a later release",
        "[invalid bearer token, square/go-jose: error in cryptographic primitive]",
        "[invalid bearer token, go-jose/go-jose: error in cryptographic primitive]",
        "[invalid bearer token, invalid signature, no keys found]",
        "[invalid bearer token, Token has expired.]",
        "[invalid bearer token, service account token has expired]",
        "[invalid bearer token, service account token is not valid yet]",
        "[invalid bearer token, Token could not be validated.]",
        "[invalid bearer token, Token has been invalidated]",
        "[invalid bearer token, service account token has been invalidated]",
        r#"[invalid bearer token, serviceaccounts "sa" not found]"#,
        "[invalid bearer token, service account ns/sa has been deleted]",
        "[invalid bearer token, ServiceAccount UID (a) does not match claim (b)]",
        "[invalid bearer token, Token does not match server's copy]",
        // An audience of the caller's choosing is quoted.
        r#"[invalid bearer token, token audiences ["x, rpc error: code = "] is invalid for the target audiences ["api"]]"#,
        r#"[invalid bearer token, oidc: verify token: oidc: expected audience "x" got ["y, context canceled"]]"#,
        // A webhook of the chain is down, but the signature is certainly invalid.
        "[invalid bearer token, go-jose/go-jose: error in cryptographic primitive, context deadline exceeded]",
        "no rpc error: code = at the beginning of a part",
    ] {
        let status = json!({ "user": {}, "error": error });
        assert_eq!(review(status, "api").await, rejected(RejectReason::Unauthenticated), "{error}");
    }
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

#[tokio::test]
async fn an_authentic_token_without_a_status_is_an_error_and_not_a_rejection() {
    for body in
        ["", "{}", "[]", "not json", r#"{"status":{"authenticated":"yes"}}"#, r#"{"status":null}"#]
    {
        let fake = replying(StatusCode::CREATED, body);
        let error = verify_without_waiting(&fake).await.unwrap_err();
        assert_eq!(error.kind(), VerifyErrorKind::InvalidResponse, "{body:?}");
        assert!(!format!("{error:?}").contains(TOKEN));
    }
}

/// serde's derived code also reads a struct from a list of its fields.
#[tokio::test]
async fn a_list_in_place_of_an_object_is_an_invalid_response() {
    let (user, groups) = (user(), user()["groups"].clone());
    let status = json!({ "authenticated": true, "audiences": ["api"], "user": user });
    let listed = json!(["system:serviceaccount:ns:sa", "u-1", groups, {}]);
    for answer in [
        json!([status]),
        json!({ "status": [true, user, ["api"], ""] }),
        json!({ "status": { "authenticated": true, "audiences": ["api"], "user": listed } }),
    ] {
        let fake = replying(StatusCode::CREATED, &answer);
        let error = verify_without_waiting(&fake).await.unwrap_err();
        assert_eq!(error.kind(), VerifyErrorKind::InvalidResponse, "{answer}");
    }
}

#[tokio::test]
async fn the_retry_table_of_the_webhook_client() {
    let cases = [
        (StatusCode::INTERNAL_SERVER_ERROR, 5, VerifyErrorKind::Unavailable),
        (StatusCode::BAD_GATEWAY, 5, VerifyErrorKind::Unavailable),
        (StatusCode::SERVICE_UNAVAILABLE, 5, VerifyErrorKind::Unavailable),
        (StatusCode::GATEWAY_TIMEOUT, 5, VerifyErrorKind::Unavailable),
        (StatusCode::TOO_MANY_REQUESTS, 5, VerifyErrorKind::RateLimited),
        (StatusCode::NOT_FOUND, 1, VerifyErrorKind::InvalidResponse),
        (StatusCode::BAD_REQUEST, 1, VerifyErrorKind::InvalidResponse),
        (StatusCode::UNAUTHORIZED, 1, VerifyErrorKind::Unauthenticated),
        (StatusCode::FORBIDDEN, 1, VerifyErrorKind::Forbidden),
    ];
    for (status, calls, kind) in cases {
        let fake = replying(status, "{}");
        let error = verify_without_waiting(&fake).await.unwrap_err();
        assert_eq!((error.kind(), fake.calls()), (kind, calls), "{status}");
    }
}

#[tokio::test]
async fn a_short_retry_after_is_obeyed_and_a_long_one_passed_on() {
    let short = FakeApiServer::replying(
        Reply::new(StatusCode::TOO_MANY_REQUESTS, "{}").header("retry-after", "2"),
    );
    let error = verify_without_waiting(&short).await.unwrap_err();
    assert_eq!(short.calls(), 5, "four pauses of 2 s fit into 10 s");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(2)));

    let long = FakeApiServer::replying(
        Reply::new(StatusCode::TOO_MANY_REQUESTS, "{}").header("retry-after", "86400"),
    );
    let error = verify_without_waiting(&long).await.unwrap_err();
    assert_eq!((long.calls(), error.retry_after()), (1, Some(Duration::from_secs(86400))));

    let odd = FakeApiServer::replying(
        Reply::new(StatusCode::IM_A_TEAPOT, "{}").header("retry-after", "1"),
    );
    verify_without_waiting(&odd).await.unwrap_err();
    assert_eq!(odd.calls(), 5, "anything with a Retry-After is asked again");
}

#[tokio::test]
async fn a_missing_right_is_reported_with_the_role_that_grants_it() {
    let body = json!({ "kind": "Status", "message": "tokenreviews is forbidden: User \"x\" cannot create" });
    let error = verify_without_waiting(&replying(StatusCode::FORBIDDEN, body)).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("system:auth-delegator") && text.contains("cannot create"), "{text}");
}

#[tokio::test]
async fn an_api_server_that_hangs_is_a_timeout() {
    let service = tower::service_fn(|_: Request<Bytes>| {
        std::future::pending::<Result<Response<Full<Bytes>>, std::convert::Infallible>>()
    });
    let clock = ManualClock::new();
    let verifier = TokenReviewVerifier::new(ApiServer::from_service(service)).clock(clock.clock());
    let task = tokio::spawn(async move {
        verifier.verify(BearerToken::parse(TOKEN).unwrap(), &Audiences::new(["api"]).unwrap()).await
    });
    let began = clock.clock().monotonic();
    while !task.is_finished() {
        clock.advance(Duration::from_millis(10));
        tokio::task::yield_now().await;
    }
    let took = clock.clock().monotonic() - began;
    assert!((10.0..10.1).contains(&took.as_secs_f64()), "{took:?}");
    assert_eq!(task.await.unwrap().unwrap_err().kind(), VerifyErrorKind::Timeout);
}

#[tokio::test]
async fn an_answer_beyond_the_size_limit_is_unavailable() {
    let fake = replying(StatusCode::CREATED, "x".repeat(10 * 1024 * 1024));
    let error = verify_without_waiting(&fake).await.unwrap_err();
    assert_eq!(error.kind(), VerifyErrorKind::Unavailable);
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

#[tokio::test]
async fn a_time_limit_that_overflows_the_clock_is_no_limit() {
    let fake = reviewing(&json!({ "authenticated": false }));
    let verifier = verifier(&fake).timeout(Duration::MAX);
    let verdict = verifier
        .verify(BearerToken::parse(TOKEN).unwrap(), &Audiences::new(["api"]).unwrap())
        .await;
    assert_eq!(verdict.unwrap(), rejected(RejectReason::Unauthenticated));
}

#[tokio::test]
async fn a_message_that_quotes_the_token_is_withheld() {
    let token = BearerToken::parse(TOKEN).unwrap();
    let audiences = Audiences::new(["api"]).unwrap();
    let parts: Vec<_> = TOKEN.split('.').collect();
    let lines = format!("{}\n{}", &TOKEN[..30], &TOKEN[30..]);
    for quote in [TOKEN, parts[0], parts[1], &lines, &format!("Bearer%20{TOKEN}\"")] {
        let error = format!("Timeout: webhook said: {quote}");
        assert_eq!(redact::message(token, &error), "(withheld, because it quotes the token)");
        let fake = reviewing(&json!({ "error": error }));
        let undecided = verifier(&fake).verify(token, &audiences).await.unwrap_err();
        assert_eq!(undecided.kind(), VerifyErrorKind::Inconclusive);
        let text = format!("{undecided} {undecided:?}");
        assert!(
            text.contains("withheld") && parts.iter().all(|part| !text.contains(part)),
            "{text}"
        );

        let body = json!({ "kind": "Status", "message": error });
        let fake = FakeApiServer::replying(
            Reply::new(StatusCode::FORBIDDEN, body).header("retry-after", "86400"),
        );
        let forbidden = verify_without_waiting(&fake).await.unwrap_err();
        assert_eq!(forbidden.kind(), VerifyErrorKind::Forbidden);
        assert_eq!(forbidden.retry_after(), Some(Duration::from_secs(86400)));
        let text = format!("{forbidden} {forbidden:?}");
        assert!(parts.iter().all(|part| part.len() < 9 || !text.contains(part)), "{text}");
    }
    for harmless in
        ["Timeout: of c2ln", "Timeout: ", "", "[invalid bearer token, Token has expired.]"]
    {
        assert_eq!(redact::message(token, harmless), harmless);
    }
    assert_eq!(
        redact::message(BearerToken::parse("short").unwrap(), "it was short"),
        redact::message(token, TOKEN)
    );
    assert_eq!(redact::message(token, &"x\n".repeat(1000)), "x".repeat(300));
}

#[tokio::test]
async fn an_unreadable_answer_that_echoes_the_token_leaves_it_out_of_the_error() {
    for body in [
        json!({ "status": TOKEN }),
        json!({ "status": { "authenticated": TOKEN } }),
        json!({ "status": { "authenticated": true, "user": TOKEN } }),
        json!({ "status": { "authenticated": true, "audiences": TOKEN } }),
    ] {
        let fake = replying(StatusCode::CREATED, &body);
        let error = verify_without_waiting(&fake).await.unwrap_err();
        assert_eq!(error.kind(), VerifyErrorKind::InvalidResponse, "{body}");
        let source = std::error::Error::source(&error).unwrap().to_string();
        for text in [error.to_string(), format!("{error:?}"), source] {
            assert!(!text.contains(TOKEN), "{text}");
        }
    }
}
