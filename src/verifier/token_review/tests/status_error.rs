//! `status.error`: which errors are about the token, and that no error quotes it.

use super::*;

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
