//! Request headers: which of them the layer reads, and which of them the handler sees.

use axum::{
    body::Body,
    http::{Request, StatusCode},
};

use crate::support::{FakeVerifier, Service, bearer, token, with_header};

/// The cases of k8s.io/apiserver's `bearertoken` test. It ignores further words after the token;
/// this crate answers 400.
#[tokio::test]
async fn the_cases_of_kube_apiservers_bearer_token_test() {
    let verifier = FakeVerifier::accepting();
    let service = Service::new(&verifier.authenticator());
    let good = token("a");
    let cases = [
        (format!("Bearer {good}"), StatusCode::OK),
        (format!("bearer {good}"), StatusCode::OK),
        (format!("Bearer {good} a"), StatusCode::BAD_REQUEST),
        (format!("Bearer  {good}"), StatusCode::BAD_REQUEST),
        ("Bearer".into(), StatusCode::BAD_REQUEST),
        ("Bearer ".into(), StatusCode::BAD_REQUEST),
        (String::new(), StatusCode::UNAUTHORIZED),
        ("Basic 123".into(), StatusCode::UNAUTHORIZED),
        (format!("bear {good}"), StatusCode::UNAUTHORIZED),
        (format!("Bearer: {good}"), StatusCode::BAD_REQUEST),
    ];
    for (value, status) in cases {
        let calls = verifier.calls();
        let answer = service.send(with_header("authorization", &value)).await;
        assert_eq!(answer.status, status, "{value}");
        assert!(
            status == StatusCode::OK || verifier.calls() == calls,
            "the verifier was called for {value}"
        );
    }
    assert_eq!(service.reached(), 2);
}

#[tokio::test]
async fn a_token_outside_the_authorization_header_is_not_read() {
    let service = Service::new(&FakeVerifier::accepting().authenticator());
    let good = token("a");
    for (name, value) in [
        ("proxy-authorization", format!("Bearer {good}")),
        ("cookie", format!("token={good}")),
        ("x-forwarded-access-token", good.clone()),
        ("sec-websocket-protocol", format!("base64url.bearer.authorization.k8s.io.{good}, chat")),
    ] {
        assert_eq!(
            service.blocked(with_header(name, &value)).await.status,
            StatusCode::UNAUTHORIZED,
            "{name}"
        );
    }
    let request = Request::get(format!("/?access_token={good}")).body(Body::empty()).unwrap();
    assert_eq!(service.blocked(request).await.status, StatusCode::UNAUTHORIZED);
}

fn forged(token: Option<&str>) -> Request<Body> {
    let mut request = Request::get("/")
        .header("x-remote-user", "system:admin")
        .header("x-remote-uid", "0")
        .header("X-Remote-Group", "system:masters")
        .header("x-remote-extra-scopes", "all")
        .header("x-remote-control", "kept")
        .header("accept", "*/*");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(Body::empty()).unwrap()
}

#[tokio::test]
async fn the_handler_sees_neither_the_token_nor_forged_identity_headers() {
    let authenticator = FakeVerifier::accepting().authenticator();
    let service = Service::new(&authenticator);
    for _ in ["verified", "cached"] {
        let answer = service.send(forged(Some(&token("a")))).await;
        assert_eq!(answer.body, "system:serviceaccount:ns:sa [accept x-remote-control]");
    }
    let layer = authenticator.layer().optional();
    let service = Service::behind(move |router| router.layer(layer));
    assert_eq!(
        service.send(forged(None)).await.body,
        "nobody [accept x-remote-control]",
        "without a token"
    );
}

#[tokio::test]
async fn the_handler_sees_neither_after_an_asynchronous_decision() {
    let verifier = FakeVerifier::accepting_asynchronously();
    let service = Service::new(&verifier.authenticator());
    let answer = service.send(forged(Some(&token("a")))).await;
    assert_eq!(answer.body, "system:serviceaccount:ns:sa [accept x-remote-control]");
}

#[tokio::test]
async fn keep_authorization_keeps_the_token() {
    let layer = FakeVerifier::accepting().authenticator().layer().keep_authorization();
    let service = Service::behind(move |router| router.layer(layer));
    assert_eq!(service.get(&token("a")).await.body, "system:serviceaccount:ns:sa [authorization]");
}

#[tokio::test]
async fn the_token_length_limit_is_configurable() {
    let authenticator =
        FakeVerifier::accepting().builder().max_token_length(token("a").len()).build().unwrap();
    let service = Service::new(&authenticator);
    assert_eq!(service.get(&token("a")).await.status, StatusCode::OK);
    assert_eq!(service.blocked(bearer(&token("ab"))).await.status, StatusCode::BAD_REQUEST);
}
