//! Calls that fail, and responses that are no TokenReview.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;

use super::*;

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
    let message = "tokenreviews is forbidden: User \"x\" cannot create";
    let body = json!({ "kind": "Status", "message": message });
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

#[tokio::test]
async fn a_time_limit_that_overflows_the_clock_is_no_limit() {
    let fake = reviewing(&json!({ "authenticated": false }));
    let verifier = verifier(&fake).timeout(Duration::MAX);
    let verdict = verifier
        .verify(BearerToken::parse(TOKEN).unwrap(), &Audiences::new(["api"]).unwrap())
        .await;
    assert_eq!(verdict.unwrap(), rejected(RejectReason::Unauthenticated));
}
