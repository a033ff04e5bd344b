//! Responses of the layer: status, headers and body, and that the handler is not reached.

use std::time::Duration;

use axum::{
    body::Body,
    http::{Request, Response, StatusCode, header},
};
use tower_kube_auth::{
    error::{VerifyError, VerifyErrorKind},
    server::Rejection,
    verdict::RejectReason,
};

use crate::support::{FakeVerifier, Service, anonymous, bearer, token, with_header};

#[tokio::test]
async fn without_a_token_the_answer_is_401_with_a_bare_challenge() {
    let verifier = FakeVerifier::accepting();
    let service = Service::new(&verifier.authenticator());
    for request in [
        anonymous(),
        with_header("authorization", "Basic dXNlcjpwYXNz"),
        with_header("authorization", ""),
    ] {
        let answer = service.blocked(request).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(answer.challenge(), Some("Bearer realm=\"kubernetes\""));
        assert_eq!(answer.body, "a bearer token is required");
    }
    assert_eq!(verifier.calls(), 0);
}

#[tokio::test]
async fn a_malformed_credential_is_400_invalid_request() {
    let verifier = FakeVerifier::accepting();
    let service = Service::new(&verifier.authenticator());
    let valid = token("a");
    let long = "a".repeat(16 * 1024 + 1);
    for value in [
        "Bearer",
        "Bearer two words",
        &format!("Bearer  {valid}"),
        &format!("Bearer {valid} "),
        &format!("Bearer {long}"),
    ] {
        let answer = service.blocked(with_header("authorization", value)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(answer.challenge().unwrap().contains("error=\"invalid_request\""));
    }
    assert_eq!(verifier.calls(), 0);
}

#[tokio::test]
async fn two_authorization_headers_are_400_even_if_both_are_valid() {
    let verifier = FakeVerifier::accepting();
    let service = Service::new(&verifier.authenticator());
    let value = format!("Bearer {}", token("a"));
    let request = Request::get("/")
        .header("authorization", &value)
        .header("authorization", &value)
        .body(Body::empty());
    let answer = service.blocked(request.unwrap()).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.challenge().unwrap().contains("error=\"invalid_request\""));
    assert_eq!(verifier.calls(), 0);
}

#[tokio::test]
async fn every_reject_reason_is_the_same_401_invalid_token() {
    for reason in [
        RejectReason::Signature,
        RejectReason::Audience,
        RejectReason::Expired,
        RejectReason::NotAServiceAccount,
        RejectReason::Unauthenticated,
        RejectReason::Deleted,
    ] {
        let service = Service::new(&FakeVerifier::rejecting(reason).authenticator());
        let answer = service.blocked(bearer(&token("a"))).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        let expected = "Bearer realm=\"kubernetes\", error=\"invalid_token\", \
                        error_description=\"the bearer token is not accepted\"";
        assert_eq!(answer.challenge(), Some(expected));
        assert_eq!(answer.body, "the bearer token is not accepted");
    }
}

#[tokio::test]
async fn a_failure_is_503_with_retry_after_and_never_a_challenge() {
    for kind in [
        VerifyErrorKind::Unavailable,
        VerifyErrorKind::Timeout,
        VerifyErrorKind::Forbidden,
        VerifyErrorKind::Unauthenticated,
        VerifyErrorKind::InvalidResponse,
        VerifyErrorKind::Inconclusive,
    ] {
        let verifier = FakeVerifier::scripted(move |_| async move {
            Err(VerifyError::new(kind, "internal detail").with_retry_after(Duration::from_secs(7)))
        });
        let service = Service::new(&verifier.authenticator());
        for call in 1..=2 {
            let answer = service.blocked(bearer(&token("a"))).await;
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{kind:?}");
            assert_eq!(answer.header(header::RETRY_AFTER), Some("7"));
            assert_eq!(answer.challenge(), None);
            assert!(!answer.body.contains("internal"), "{}", answer.body);
            assert_eq!(verifier.calls(), call, "an error is not cached");
        }
    }
}

#[tokio::test]
async fn the_realm_is_configurable() {
    let authenticator =
        FakeVerifier::accepting().builder().realm("orders service").build().unwrap();
    let answer = Service::new(&authenticator).blocked(anonymous()).await;
    assert_eq!(answer.challenge(), Some("Bearer realm=\"orders service\""));
}

#[tokio::test]
async fn a_hook_replaces_the_body_and_keeps_status_and_headers() {
    let layer = FakeVerifier::rejecting(RejectReason::Expired)
        .authenticator()
        .layer()
        .map_rejection_response(|response: Response<()>, rejection: &Rejection| {
            let Rejection::InvalidToken(reason) = rejection else { panic!("{rejection}") };
            let body = format!("{{\"reason\":\"{}\"}}", reason.as_str());
            let mut response = response.map(|()| Body::from(body));
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
            response
        });
    let service = Service::behind(move |router| router.layer(layer));
    let answer = service.blocked(bearer(&token("a"))).await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (StatusCode::UNAUTHORIZED, "{\"reason\":\"expired\"}")
    );
    assert_eq!(answer.header(header::CONTENT_TYPE), Some("application/json"));
    assert!(answer.challenge().unwrap().contains("invalid_token"));
}

#[tokio::test]
async fn a_grpc_request_gets_a_trailers_only_response() {
    let cases = [
        (FakeVerifier::accepting(), None, "16"),
        (FakeVerifier::accepting(), Some("two words".to_owned()), "16"),
        (FakeVerifier::rejecting(RejectReason::Signature), Some(token("a")), "16"),
        (FakeVerifier::failing(), Some(token("a")), "14"),
    ];
    for (verifier, token, status) in cases {
        let service = Service::new(&verifier.authenticator());
        for content_type in ["application/grpc", "application/grpc+proto"] {
            let mut request = Request::post("/").header(header::CONTENT_TYPE, content_type);
            if let Some(token) = &token {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            let answer = service.blocked(request.body(Body::empty()).unwrap()).await;
            assert_eq!(answer.status, StatusCode::OK);
            assert_eq!(answer.header("grpc-status"), Some(status));
            assert_eq!(answer.header(header::CONTENT_TYPE), Some("application/grpc"));
            assert!(answer.header("grpc-message").is_some());
            assert_eq!(answer.challenge(), None);
            assert_eq!(answer.body, "");
        }
    }
}

#[tokio::test]
async fn a_get_with_a_grpc_content_type_is_no_cacheable_200() {
    let service = Service::new(&FakeVerifier::accepting().authenticator());
    let answer = service.blocked(with_header("content-type", "application/grpc")).await;
    assert_eq!((answer.status, answer.header("grpc-status")), (StatusCode::UNAUTHORIZED, None));
}

#[tokio::test]
async fn an_optional_layer_passes_only_requests_without_a_bearer_token() {
    let verifier = FakeVerifier::rejecting(RejectReason::Signature);
    let layer = verifier.authenticator().layer().optional();
    let service = Service::behind(move |router| router.layer(layer));
    for request in [anonymous(), with_header("authorization", "Basic dXNlcjpwYXNz")] {
        let answer = service.send(request).await;
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "nobody []"));
    }
    assert_eq!(service.blocked(bearer(&token("a"))).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(service.blocked(bearer("two words")).await.status, StatusCode::BAD_REQUEST);

    let layer = FakeVerifier::failing().authenticator().layer().optional();
    let service = Service::behind(move |router| router.layer(layer));
    assert_eq!(service.blocked(bearer(&token("a"))).await.status, StatusCode::SERVICE_UNAVAILABLE);
}
