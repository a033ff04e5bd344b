//! What is answered to whom: status, headers, and that the handler was not reached.

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

use crate::scripted::{Scripted, Service, anonymous, bearer, token, with_header};

#[tokio::test]
async fn without_a_token_401_and_a_challenge_without_an_error_code() {
    let verifier = Scripted::accepting();
    let service = Service::new(&verifier.authenticator());
    for request in [
        anonymous(),
        with_header("authorization", "Basic dXNlcjpwYXNz"),
        with_header("authorization", ""),
    ] {
        let answer = service.refused(request).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(answer.challenge(), Some("Bearer realm=\"kubernetes\""));
        assert_eq!(answer.body, "a bearer token is required");
    }
    assert_eq!(verifier.calls(), 0);
}

#[tokio::test]
async fn a_malformed_credential_400_invalid_request() {
    let verifier = Scripted::accepting();
    let service = Service::new(&verifier.authenticator());
    let good = token("a");
    let long = "a".repeat(16 * 1024 + 1);
    for value in [
        "Bearer",
        "Bearer two words",
        &format!("Bearer  {good}"),
        &format!("Bearer {good} "),
        &format!("Bearer {long}"),
    ] {
        let answer = service.refused(with_header("authorization", value)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(answer.challenge().unwrap().contains("error=\"invalid_request\""));
    }
    assert_eq!(verifier.calls(), 0);
}

#[tokio::test]
async fn two_authorization_headers_400_though_both_are_good() {
    let verifier = Scripted::accepting();
    let service = Service::new(&verifier.authenticator());
    let value = format!("Bearer {}", token("a"));
    let request = Request::get("/")
        .header("authorization", &value)
        .header("authorization", &value)
        .body(Body::empty());
    let answer = service.refused(request.unwrap()).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.challenge().unwrap().contains("error=\"invalid_request\""));
    assert_eq!(verifier.calls(), 0);
}

#[tokio::test]
async fn a_rejected_token_401_invalid_token_whatever_the_reason_without_saying_it() {
    for reason in [
        RejectReason::Signature,
        RejectReason::Audience,
        RejectReason::Expired,
        RejectReason::NotAServiceAccount,
        RejectReason::Unauthenticated,
    ] {
        let service = Service::new(&Scripted::rejecting(reason).authenticator());
        let answer = service.refused(bearer(&token("a"))).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        let expected = "Bearer realm=\"kubernetes\", error=\"invalid_token\", \
                        error_description=\"the bearer token is not accepted\"";
        assert_eq!(answer.challenge(), Some(expected));
        assert_eq!(answer.body, "the bearer token is not accepted");
    }
}

#[tokio::test]
async fn trouble_of_ours_503_with_retry_after_and_never_a_challenge() {
    for kind in [
        VerifyErrorKind::Unavailable,
        VerifyErrorKind::Timeout,
        VerifyErrorKind::Forbidden,
        VerifyErrorKind::Unauthenticated,
        VerifyErrorKind::InvalidResponse,
        VerifyErrorKind::Inconclusive,
    ] {
        let verifier = Scripted::new(move |_| async move {
            Err(VerifyError::new(kind, "internal detail").with_retry_after(Duration::from_secs(7)))
        });
        let service = Service::new(&verifier.authenticator());
        for call in 1..=2 {
            let answer = service.refused(bearer(&token("a"))).await;
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
    let authenticator = Scripted::accepting().builder().realm("orders service").build().unwrap();
    let answer = Service::new(&authenticator).refused(anonymous()).await;
    assert_eq!(answer.challenge(), Some("Bearer realm=\"orders service\""));
}

#[tokio::test]
async fn the_body_is_replaceable_and_status_and_headers_stay() {
    let layer = Scripted::rejecting(RejectReason::Expired)
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
    let answer = service.refused(bearer(&token("a"))).await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (StatusCode::UNAUTHORIZED, "{\"reason\":\"expired\"}")
    );
    assert_eq!(answer.header(header::CONTENT_TYPE), Some("application/json"));
    assert!(answer.challenge().unwrap().contains("invalid_token"));
}

#[tokio::test]
async fn grpc_gets_trailers_only() {
    let cases = [
        (Scripted::accepting(), None, "16"),
        (Scripted::accepting(), Some("two words".to_owned()), "16"),
        (Scripted::rejecting(RejectReason::Signature), Some(token("a")), "16"),
        (Scripted::failing(), Some(token("a")), "14"),
    ];
    for (verifier, token, status) in cases {
        let service = Service::new(&verifier.authenticator());
        for content_type in ["application/grpc", "application/grpc+proto"] {
            let mut request = Request::post("/").header(header::CONTENT_TYPE, content_type);
            if let Some(token) = &token {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            let answer = service.refused(request.body(Body::empty()).unwrap()).await;
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
async fn a_content_type_does_not_turn_a_refused_get_into_a_cacheable_200() {
    let service = Service::new(&Scripted::accepting().authenticator());
    let answer = service.refused(with_header("content-type", "application/grpc")).await;
    assert_eq!((answer.status, answer.header("grpc-status")), (StatusCode::UNAUTHORIZED, None));
}

#[tokio::test]
async fn optional_lets_only_requests_without_a_bearer_token_through() {
    let verifier = Scripted::rejecting(RejectReason::Signature);
    let layer = verifier.authenticator().layer().optional();
    let service = Service::behind(move |router| router.layer(layer));
    for request in [anonymous(), with_header("authorization", "Basic dXNlcjpwYXNz")] {
        let answer = service.send(request).await;
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "nobody []"));
    }
    assert_eq!(service.refused(bearer(&token("a"))).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(service.refused(bearer("two words")).await.status, StatusCode::BAD_REQUEST);

    let layer = Scripted::failing().authenticator().layer().optional();
    let service = Service::behind(move |router| router.layer(layer));
    assert_eq!(service.refused(bearer(&token("a"))).await.status, StatusCode::SERVICE_UNAVAILABLE);
}
